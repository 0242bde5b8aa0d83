"""Report of an evaluation: report.md, report.json, report.png, and a table on the terminal."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from sesame import configs
from sesame.configs.storage import atomic_file, write_text
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.encoding import TaskData
from sesame.evaluation.results import Result
from sesame.evaluation.summary import ReportRow, Summary, summarise
from sesame.evaluation.tasks.glue import SUBMISSION_FILES

NAMES = {"pretrained": "pretrained", "random": "random-init baseline"}
COLOURS = {"pretrained": "#1f5fa8", "random": "#b9bec6"}


@dataclass(frozen=True)
class RunInfo:
    """The checkpoint that was evaluated, and when."""

    checkpoint: str
    step: int
    fingerprint: str
    """SHA-256 of the backbone's weights and the tokenizer."""
    started: datetime


def write(
    output: Path,
    config: EvaluationConfig,
    tasks: Sequence[TaskData],
    results: Sequence[Result],
    skipped: dict[str, str],
    run: RunInfo,
) -> Path:
    """Write the three files into ``output`` and print the table.

    Returns:
        The path of ``report.md``.
    """
    summary = summarise(tasks, results, config.suite.mean_over)
    write_text(output / "report.json", json.dumps(_json(config, tasks, results, skipped, run, summary), indent=2))
    _draw(summary, output / "report.png", run)
    path = output / "report.md"
    write_text(path, _markdown(config, tasks, results, skipped, run, summary))
    _print(summary, skipped, path)
    return path


def _json(
    config: EvaluationConfig,
    tasks: Sequence[TaskData],
    results: Sequence[Result],
    skipped: dict[str, str],
    run: RunInfo,
    summary: Summary,
) -> dict[str, object]:
    return {
        "checkpoint": run.checkpoint,
        "step": run.step,
        "fingerprint": run.fingerprint,
        "started": run.started.isoformat(timespec="seconds"),
        "versions": _versions(),
        "unit": "points of 100; by_seed in the order of suite.seeds; spread = largest - smallest",
        "mean": {"over": summary.mean_over, **summary.mean.to_json()},
        "tasks": {
            data.title: {
                "score": summary.tasks[data.title].to_json(),
                "metrics": {name: row.to_json() for name, row in summary.metrics[data.title].items()},
                "train_rows": len(data.train.tokens),
                "dev_rows": {prefix: len(dev.tokens) for prefix, dev in data.dev.items()},
                "notes": data.notes,
                "settings": configs.dump(config.settings(data.task.name)),
                "seconds": round(sum(result.seconds for result in results if result.task == data.task.name), 1),
            }
            for data in tasks
        },
        "skipped": skipped,
        "config": config.recipe(),
    }


def _markdown(
    config: EvaluationConfig,
    tasks: Sequence[TaskData],
    results: Sequence[Result],
    skipped: dict[str, str],
    run: RunInfo,
    summary: Summary,
) -> str:
    seeds = ", ".join(map(str, config.suite.seeds))
    lines = [
        f"# Evaluation of {Path(run.checkpoint).name}",
        "",
        f"Checkpoint `{run.checkpoint}`, step {run.step}, fingerprint {run.fingerprint[:16]}. "
        f"Started {run.started:%Y-%m-%d %H:%M %Z}; {', '.join(f'{k} {v}' for k, v in _versions().items())}.",
        "",
        f"Scores on dev rows, times 100: median over {len(config.suite.seeds)} seeds ({seeds}), with the spread "
        "(largest minus smallest) in parentheses. The score of a task is the mean of its metrics. The random-init "
        "baseline is the same model with random initial weights, fine-tuned in the same way.",
        "",
        *_score_table(summary),
        "",
        "![scores](report.png)",
        "",
        f"The mean is over {', '.join(summary.mean_over) or 'no task'}.",
        *_missing_in_mean(config, tasks),
        *(["", *_gain(summary)] if "random" in summary.models else []),
        "",
        "## By metric",
        "",
        *_metric_table(summary),
        "",
        "## Settings",
        "",
        *_settings_table(config, tasks, results),
        "",
    ]
    return "\n".join([*lines, *_notes(tasks, skipped), *_submission(config, results)])


def _notes(tasks: Sequence[TaskData], skipped: dict[str, str]) -> list[str]:
    notes = [f"- {data.title}: {note}" for data in tasks for note in data.notes]
    notes += [f"- {name}: skipped: {reason}" for name, reason in skipped.items()]
    return ["## Notes", "", *notes, ""] if notes else []


def _submission(config: EvaluationConfig, results: Sequence[Result]) -> list[str]:
    files = sorted(name for result in results for name in result.submission)
    if not files:
        return []
    missing = [name for name in SUBMISSION_FILES if name not in files] if set(files) & set(SUBMISSION_FILES) else []
    sentence = f"In `submission/`: {', '.join(files)}; from the pretrained model with seed {config.suite.seeds[0]}."
    if missing:
        sentence += f" gluebenchmark.com also requires {', '.join(missing)}."
    return ["## Test predictions", "", sentence, ""]


def _score_table(summary: Summary) -> list[str]:
    columns = [*summary.tasks.values(), summary.mean]
    rows = [("", [row.title for row in columns])]
    rows += [(NAMES[model], [str(row.models.get(model, "–")) for row in columns]) for model in summary.models]
    if "random" in summary.models:
        rows.append(("difference", [_signed(row.difference) for row in columns]))
    rows.append(("most frequent label", [_plain(row.most_frequent) for row in columns]))
    return _table([[name, *cells] for name, cells in rows])


def _metric_table(summary: Summary) -> list[str]:
    models = summary.models
    rows = [["task", "metric", *(NAMES[model] for model in models), "difference", "most frequent label"]]
    for title, metrics in summary.metrics.items():
        rows += [[title, name, *_cells(row, models)] for name, row in metrics.items()]
    return _table(rows)


def _settings_table(config: EvaluationConfig, tasks: Sequence[TaskData], results: Sequence[Result]) -> list[str]:
    fields = ("learning_rate", "batch_size", "epochs", "dropout", "sequence_length", "pooling", "precision")
    rows = [
        ["task", "training rows", "dev rows", *(name.replace("_", " ") for name in fields), "weights of", "minutes"]
    ]
    for data in tasks:
        settings = config.settings(data.task.name)
        task_results = [result for result in results if result.task == data.task.name]
        epochs = sorted({result.epoch for result in task_results})
        dev = " + ".join(str(len(dev.tokens)) for dev in data.dev.values())
        chosen = f"{settings.select} epoch ({', '.join(map(str, epochs))})"
        minutes = f"{sum(result.seconds for result in task_results) / 60:.1f}"
        values = (str(getattr(settings, name)) for name in fields)
        rows.append([data.title, str(len(data.train.tokens)), dev, *values, chosen, minutes])
    return _table(rows)


def _missing_in_mean(config: EvaluationConfig, tasks: Sequence[TaskData]) -> list[str]:
    ran = {data.task.name for data in tasks}
    missing = [name for name in config.suite.mean_over if name not in ran]
    return [f"It does not include {', '.join(missing)}, which did not run."] if missing else []


def _gain(summary: Summary) -> list[str]:
    mean = summary.mean
    relation = "more" if mean.beyond_spread else "not more"
    return [
        f"Gain from pretraining in the mean: {_signed(mean.difference)} points, {relation} than the spread over seeds "
        f"({max(statistic.spread for statistic in mean.models.values()):.1f})."
    ]


def _print(summary: Summary, skipped: dict[str, str], path: Path) -> None:
    console = Console()
    models = summary.models
    table = Table(title="dev scores, times 100: median over seeds (spread: largest - smallest)")
    for name in ("task", "metric", *(NAMES[model] for model in models), "difference", "most frequent label"):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for title, metrics in summary.metrics.items():
        for name, row in metrics.items():
            table.add_row(title, name, *_cells(row, models))
    table.add_section()
    table.add_row(summary.mean.title, "", *_cells(summary.mean, models), style="bold")
    console.print(table)
    for name, reason in skipped.items():
        console.print(f"{name}: skipped: {reason}", markup=False)
    console.print(f"report: {path}", markup=False, soft_wrap=True)


def _cells(row: ReportRow, models: Sequence[str]) -> list[str]:
    return [
        *(str(row.models.get(model, "–")) for model in models),
        _signed(row.difference),
        _plain(row.most_frequent),
    ]


def _draw(summary: Summary, path: Path, run: RunInfo) -> None:
    """Bar chart: the median of each model by task, and a dot for each seed."""
    rows = [*summary.tasks.values(), *([summary.mean] if summary.mean.models else [])]
    figure = Figure(figsize=(max(6.0, 1.5 + 1.25 * len(rows)), 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    models = summary.models
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        centres = [position + (number - (len(models) - 1) / 2) * width for position in range(len(rows))]
        medians = [row.models[model].median for row in rows]
        axes.bar(centres, medians, width * 0.94, color=COLOURS[model], label=NAMES[model], zorder=2)
        for centre, row in zip(centres, rows, strict=True):
            values = row.models[model].defined
            axes.scatter([centre] * len(values), values, s=14, color="black", zorder=3, linewidths=0)
            annotation = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(_plain(row.models[model].median), (centre, max([0.0, *values])), **annotation)
    axes.set_xticks(range(len(rows)), [row.title.replace(" (", "\n(") for row in rows], fontsize=9)
    axes.set_ylabel("score, times 100 (bars: median, dots: seeds)")
    axes.set_title(f"{Path(run.checkpoint).name}, step {run.step}: dev scores", fontsize=11)
    axes.axvline(len(rows) - 1.5, color="#888888", linewidth=0.8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", color="#e3e3e3", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=len(models), frameon=False)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return [head, "|---|" + "---:|" * (len(rows[0]) - 1), *body]


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"


def _plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def _versions() -> dict[str, str]:
    try:
        own = version("sesame")
    except PackageNotFoundError:
        own = "not installed"
    return {"sesame": own, "python": platform.python_version(), "torch": torch.__version__}
