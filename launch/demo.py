"""The demo (``make demo``): raw text -> dataset -> pretrained model -> scores on small tasks, in a few minutes.

Each stage is a ``sesame`` command, which is printed before it runs. A stage skips or resumes work that its output
folder contains.
"""

import importlib.util
import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sesame.configs.durations import duration
from sesame.configs.json_lines import read_rows
from sesame.configs.shipped import FOLDER
from sesame.configs.stopping import CONTINUE
from sesame.launch.processes import SESAME, follow

EXPECTED_BELOW = 0.7
"""Expected distance (nats) of the validation loss on masked words below the unigram baseline, on any two cores."""
EXPECTED_SECONDS = 480
"""Expected duration of all stages on two cores, at most."""
SHIPPED = Path(os.path.relpath(FOLDER))
"""Folder of the shipped configuration files, relative to the current folder."""


@dataclass(frozen=True)
class Stage:
    """One command of the demo."""

    title: str
    arguments: Sequence[str | Path]
    """Arguments of ``sesame``."""


def stages(folder: Path, glue: Path | None) -> list[Stage]:
    """Commands of the demo; with ``glue``, GLUE's tasks replace those made from validation documents."""
    dataset, run, tasks = folder / "dataset", folder / "pretrain", glue or folder / "tasks"
    suite = SHIPPED / "evaluation" / ("glue_small.toml" if glue else "probe.toml")
    commands = [
        Stage(
            "Prepare: make masked examples from the documentation of this Python installation",
            ["prepare", SHIPPED / "corpus" / "demo.toml", "--output", dataset],
        ),
        Stage("Inspect: show two examples", ["inspect", dataset, "--count", "2"]),
        Stage(
            "Pretrain: train a small BERT to predict the masked words",
            ["pretrain", SHIPPED / "pretrain" / "demo.toml", "--set", f"data.dataset={dataset}", "--output", run],
        ),
        Stage("Tasks: make small tasks from validation documents", ["probe-tasks", dataset, tasks]),
        Stage(
            "Evaluate: fine-tune the pretrained model and the random-init baseline",
            ["evaluate", suite, "--checkpoint", run, "--data-dir", tasks, "--output", folder / "evaluation"],
        ),
    ]
    return [stage for stage in commands if not (glue and stage.arguments[0] == "probe-tasks")]


def run_demo(folder: Path, glue: Path | None = None, console: Console | None = None) -> int:
    """Run all stages and print their results; returns the exit code of the first stage that failed, or 0.

    Raises:
        ModuleNotFoundError: torch is not installed; known before the first stage has run.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError(name="torch")
    console = console or Console()
    seconds: dict[str, float] = {}
    commands = stages(folder, glue)
    for number, stage in enumerate(commands, 1):
        console.rule(f"[bold]{number}/{len(commands)} {stage.title}", align="left")
        arguments = [str(argument) for argument in stage.arguments]
        console.print(f"$ sesame {shlex.join(arguments)}", style="bold", highlight=False, soft_wrap=True)
        start = time.monotonic()
        code = follow([*SESAME, *arguments])
        if code == CONTINUE:
            console.print("The demo is stopped by a signal; the same command continues it.")
            return code
        if code:
            console.print(f"The demo stops: `sesame {arguments[0]}` failed with exit code {code}.", style="red")
            return code
        seconds[arguments[0]] = time.monotonic() - start
    _show_results(console, folder, seconds, glue)
    return 0


def _show_results(console: Console, folder: Path, seconds: dict[str, float], glue: Path | None) -> None:
    """Print the scores, the loss relative to the unigram baseline, the times, and the next command."""
    console.rule("[bold]Results", align="left")
    report = json.loads((folder / "evaluation" / "report.json").read_text(encoding="utf-8"))
    console.print(_scores(report, "GLUE" if glue else "small tasks made from validation documents, not GLUE"))
    lines = {
        "validation loss": _loss_against_baseline(folder),
        "loss curve": str(folder / "pretrain" / "loss.png"),
        "full report": str(folder / "evaluation" / "report.md"),
        "time": ", ".join(f"{stage} {duration(took)}" for stage, took in seconds.items() if took >= 1)
        + f"; total {duration(sum(seconds.values()))} (expected: at most {duration(EXPECTED_SECONDS)})",
        "next": _next_command(folder, glue),
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        grid.add_row(f"[bold]{name}", Text(text, overflow="fold"))
    console.print(grid)


def _scores(report: Mapping[str, Any], title: str) -> Table:
    """Table with a row for each task and one for the mean: medians over the seeds."""
    table = Table("task", title=f"{title}: scores times 100, median over seeds (largest - smallest)")
    columns = {"pretrained": "pretrained", "random": "random-init baseline", "difference": "difference"}
    for column in columns.values():
        table.add_column(column, justify="right")
    rows = {name: task["score"] for name, task in report["tasks"].items()}
    for name, row in {**rows, "mean": report["mean"]}.items():
        if name == "mean":
            table.add_section()
        table.add_row(name, *(_cell(row.get(key)) for key in columns))
    return table


def _cell(value: Mapping[str, float | None] | float | None) -> str:
    if isinstance(value, Mapping):
        return "undefined" if value["median"] is None else f"{value['median']:.1f} ({value['spread']:.1f})"
    return "" if value is None else f"{value:+.1f}"


def _loss_against_baseline(folder: Path) -> str:
    manifest = json.loads((folder / "dataset" / "manifest.json").read_text(encoding="utf-8"))
    baseline = manifest["unigram_cross_entropy_validation"]
    rows = read_rows(folder / "pretrain" / "metrics.jsonl")
    step, loss = next((row["step"], row["validation"]["masked_lm"]) for row in reversed(rows) if "validation" in row)
    below = baseline - loss
    distance = f"{abs(below):.2f} nats {'below' if below >= 0 else 'above'} the unigram baseline of {baseline:.2f}"
    missed = "" if below >= EXPECTED_BELOW else "; a busy machine takes fewer steps in the same minutes"
    return f"{distance} after {step} steps (expected: at least {EXPECTED_BELOW} below{missed})"


def _next_command(folder: Path, glue: Path | None) -> str:
    inspect = shlex.join(["sesame", "inspect", str(folder / "dataset"), "--split", "validation"])
    return inspect if glue else f"make demo GLUE=DIR  (fine-tune on the GLUE files in DIR), or {inspect}"
