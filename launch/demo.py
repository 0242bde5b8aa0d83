"""The story of ``make demo``: raw text -> dataset -> pretrained model -> fine-tuned tasks -> a table, in a few minutes.

Every stage is the command that a person would type, is printed before it runs, and is skipped or continued by itself
where its folder is already complete.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import configs

EXPECTED_BELOW = 0.7
"""Nats that the validation loss on masked words should be below the unigram baseline, on two cores of any kind."""
EXPECTED_SECONDS = 480
"""That all stages should take there at most."""
SHIPPED = Path(os.path.relpath(Path(configs.__file__).parent))
"""The configuration files that come with the package; relative, as a person would type it."""


@dataclass(frozen=True)
class Stage:
    """One command of the demo: what it is for, and the words after ``sesame``."""

    title: str
    words: Sequence[str | Path]


def stages(folder: Path, glue: Path | None) -> list[Stage]:
    """The demo's commands; with ``glue``, the real tasks take the place of those made from held-out documents."""
    dataset, run, tasks = folder / "dataset", folder / "pretrain", glue or folder / "tasks"
    suite = SHIPPED / "evaluation" / ("glue_small.toml" if glue else "probe.toml")
    road = [
        Stage(
            "Prepare: the documentation of this Python installation becomes masked examples",
            ["prepare", SHIPPED / "corpus" / "demo.toml", "--output", dataset],
        ),
        Stage("Inspect: two examples as the model will see them", ["inspect", dataset, "--count", "2"]),
        Stage(
            "Pretrain: a small BERT learns to fill the masks",
            ["pretrain", SHIPPED / "pretrain" / "demo.toml", "--set", f"data.dataset={dataset}", "--output", run],
        ),
        Stage(
            "Tasks: small exercises made from documents that the model has not seen", ["probe-tasks", dataset, tasks]
        ),
        Stage(
            "Evaluate: fine-tune the pretrained model and its random-init baseline",
            ["evaluate", suite, "--checkpoint", run, "--data-dir", tasks, "--output", folder / "evaluation"],
        ),
    ]
    return [stage for stage in road if not (glue and stage.words[0] == "probe-tasks")]


def walk(folder: Path, glue: Path | None = None, console: Console | None = None) -> int:
    """Run every stage and show what came of it; returns the exit code of the first stage that failed, or 0."""
    console = console or Console()
    seconds: dict[str, float] = {}
    road = stages(folder, glue)
    for number, stage in enumerate(road, 1):
        console.rule(f"[bold]{number}/{len(road)} {stage.title}", align="left")
        words = [str(word) for word in stage.words]
        console.print(f"$ sesame {shlex.join(words)}", style="bold", highlight=False, soft_wrap=True)
        begin = time.monotonic()
        code = subprocess.run([sys.executable, "-P", "-m", "launch", *words], check=False).returncode
        if code:
            console.print(f"The demo stops here, because `sesame {words[0]}` ended with code {code}.", style="red")
            return code
        seconds[words[0]] = time.monotonic() - begin
    _show_results(console, folder, seconds, glue)
    return 0


def _show_results(console: Console, folder: Path, seconds: dict[str, float], glue: Path | None) -> None:
    """Print scores, the loss beside the unigram baseline, times, and what to type next."""
    console.rule("[bold]What came of it", align="left")
    report = json.loads((folder / "evaluation" / "report.json").read_text(encoding="utf-8"))
    console.print(_scores(report, "GLUE" if glue else "small tasks made from held-out documents, not GLUE"))
    lines = {
        "masked words": _loss_against_baseline(folder),
        "loss curve": str(folder / "pretrain" / "loss.png"),
        "full report": str(folder / "evaluation" / "report.md"),
        "time": ", ".join(f"{stage} {clock(took)}" for stage, took in seconds.items() if took >= 1)
        + f"; together {clock(sum(seconds.values()))} (expected: at most {clock(EXPECTED_SECONDS)})",
        "next": _next_command(folder, glue),
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        grid.add_row(f"[bold]{name}", Text(text, overflow="fold"))
    console.print(grid)


def _scores(report: Mapping[str, Any], what: str) -> Table:
    """A row for each task and their mean; medians over the seeds, in points of 100."""
    table = Table("task", title=f"{what}: median over seeds (largest - smallest), points of 100")
    columns = {"pretrained": "pretrained", "random": "random-init baseline", "difference": "difference"}
    for title in columns.values():
        table.add_column(title, justify="right")
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
    rows = [json.loads(line) for line in (folder / "pretrain" / "metrics.jsonl").read_text("utf-8").splitlines()]
    step, loss = next((row["step"], row["validation"]["masked_lm"]) for row in reversed(rows) if "validation" in row)
    below = baseline - loss
    distance = f"{abs(below):.2f} nats {'below' if below >= 0 else 'above'} the unigram baseline of {baseline:.2f}"
    missed = "" if below >= EXPECTED_BELOW else "; a machine that is busy takes fewer steps in the same minutes"
    return f"{distance} after {step} steps (expected: at least {EXPECTED_BELOW} below{missed})"


def _next_command(folder: Path, glue: Path | None) -> str:
    longer = shlex.join(["sesame", "inspect", str(folder / "dataset"), "--split", "validation"])
    real = f"make demo GLUE=DIR  (real GLUE in DIR), or {longer}"
    return longer if glue else real


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
