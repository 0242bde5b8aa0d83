"""Every suite with every checkpoint: the scores as one Markdown table for each suite.

    python benchmarks/suites.py --data-dir DATA --output runs/suites --checkpoint books=runs/books minilm=runs/minilm
    python benchmarks/suites.py ... --suites superglue fewclue --longest 128 --set 'suite.seeds=[1]' \\
        finetune.limit_dev_rows=100

DATA has the folders glue, superglue, clue and blimp in their official layouts. A task without its training file is
trained on 80 % of its dev rows and scored on the others; one without a dev file is left out and named below its table,
as is a suite without any. What is there from an earlier call is not computed again. Scores are times 100; a task that
was scored on part of its rows has their number.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sesame import configs
from sesame.configs.errors import SesameError, TaskError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.tasks.task import Task


class Suite(NamedTuple):
    """A row of the table."""

    file: str
    """In configs/evaluation."""
    folder: str
    """Below the data directory."""
    tasks: tuple[str, ...] = ()
    """Of the file; empty: all."""
    also: tuple[str, ...] = ()
    """Tasks beside those of the file."""


SUITES = {
    "glue": Suite("glue", "glue"),
    "superglue": Suite("superglue", "superglue"),
    "clue": Suite("clue", "clue", also=("OCNLI-10k",)),
    "fewclue": Suite("fewclue", "clue"),
    "blimp": Suite("zero_shot", ".", ("BLiMP",)),
    "similarity": Suite("zero_shot", "glue", ("STS-B-cosine",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="NAME=DIR", help="run folders or checkpoints")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--suites", nargs="+", default=list(SUITES), choices=list(SUITES))
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE"
    )
    parser.add_argument(
        "--longest", type=int, metavar="TOKENS", help="shorten longer sequences, for models of few positions"
    )
    options = parser.parse_args()
    checkpoints = dict(pair.split("=", 1) for pair in options.checkpoint)
    try:
        for suite in options.suites:
            reports, missing = {}, {}
            for name, folder in checkpoints.items():
                try:
                    reports[name] = report_of(suite, folder, options.output / name / suite, options)
                except TaskError as error:
                    missing[name] = str(error)
            print("\n".join(lines_of(suite, reports, missing)), flush=True)
    except SesameError as error:
        parser.exit(2, f"{error}\n")


def report_of(suite: str, checkpoint: str, output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a checkpoint on a suite, if that is not done, and return the report."""
    row = SUITES[suite]
    folder, file = options.data_dir / row.folder, Path("configs/evaluation") / f"{row.file}.toml"
    # The mean over tasks of zero_shot.toml is of one that not every row of the table has.
    changes = [f"checkpoint={checkpoint}", f"data_dir={folder}", f"output={output}", "suite.mean_over=[]"]
    changes += options.overrides
    config = configs.load(file, EvaluationConfig, changes)
    tasks, known = [*(row.tasks or config.suite.tasks), *row.also], config.task_table()
    changes += [f"suite.tasks={json.dumps(tasks)}"]
    changes += [f"tasks.{name}.split_dev=true" for name in tasks if is_without_training(known[name], folder)]
    changes += config.shorter(options.longest) if options.longest else []
    evaluate(configs.load(file, EvaluationConfig, changes))
    return json.loads((output / "report.json").read_text(encoding="utf-8"))


def is_without_training(task: Task, folder: Path) -> bool:
    """Return whether a task has dev rows, but not its training file."""
    if task.train is None or (folder / task.train.file).exists():
        return False
    return all((folder / table.file).exists() for table in task.dev.values() if not table.optional)


def lines_of(suite: str, reports: dict[str, Any], missing: dict[str, str]) -> Iterator[str]:
    """Yield the lines of a suite's table, with a row for each metric and a column for each model of each checkpoint."""
    yield f"\n### {suite}\n"
    columns = [(name, model) for name, report in reports.items() for model in report["mean"] if model in MODELS]
    titles = dict.fromkeys(title for report in reports.values() for title in report["tasks"])
    if titles:
        yield _row(["task", "metric", "train rows", *(f"{name}{MODELS[model]}" for name, model in columns), "constant"])
        yield "|---|---|" + "---:|" * (len(columns) + 2)
    for title in titles:
        tasks = {name: report["tasks"].get(title) for name, report in reports.items()}
        first = next(task for task in tasks.values() if task)
        for metric in first["metrics"]:
            values = [((tasks[name] or {}).get("metrics", {}).get(metric) or {}) for name, _ in columns]
            cells = [_cell(value.get(model)) for value, (_, model) in zip(values, columns, strict=True)]
            constant = first["metrics"][metric]["most_frequent_label"]
            yield _row(
                [title, metric, first["train_rows"] or "–", *cells, "–" if constant is None else f"{constant:.1f}"]
            )
    skipped = {task: reason for report in reports.values() for task, reason in report["skipped"].items()}
    for task, reason in skipped.items():
        file_and_reason = re.sub(r"/\S*/", "", reason)
        yield f"\n{task} is left out: {file_and_reason}."
    yield from (f"\n{name} has no score: {reason}." for name, reason in missing.items())


MODELS = {"pretrained": "", "random": ", random weights"}


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _cell(statistic: dict[str, Any] | None) -> str:
    if statistic is None or statistic["median"] is None:
        return "–"
    return f"{statistic['median']:.1f} ({statistic['spread']:.1f})"


if __name__ == "__main__":
    main()
