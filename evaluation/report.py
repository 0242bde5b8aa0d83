"""Results -> report.md, report.json, report.png, and a table on the terminal."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import configs
from evaluation.config import EvaluationConfig
from evaluation.encoding import TaskData
from evaluation.reading import write_whole
from evaluation.results import Result
from evaluation.summary import Line, Summary, summarise

NAMES = {"pretrained": "pretrained", "random": "random-init baseline"}
COLOURS = {"pretrained": "#1f5fa8", "random": "#b9bec6"}
GLUE_FILES = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX")
"""What gluebenchmark.com wants in one archive."""


@dataclass(frozen=True)
class Subject:
    """What was evaluated, and when."""

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
    subject: Subject,
) -> Path:
    """Write the three files into ``output``, print the table, and return the path of the Markdown one."""
    summary = summarise(tasks, results, config.suite.mean_over)
    write_whole(output / "report.json", json.dumps(_json(config, tasks, results, skipped, subject, summary), indent=2))
    _draw(summary, output / "report.png", subject)
    path = output / "report.md"
    write_whole(path, _markdown(config, tasks, results, skipped, subject, summary))
    _print(summary, skipped, path)
    return path


def _json(config, tasks, results, skipped, subject: Subject, summary: Summary) -> dict[str, object]:
    return {
        "checkpoint": subject.checkpoint,
        "step": subject.step,
        "fingerprint": subject.fingerprint,
        "started": subject.started.isoformat(timespec="seconds"),
        "versions": _versions(),
        "unit": "points of 100; by_seed in the order of suite.seeds; spread = largest - smallest",
        "mean": {"over": summary.mean_over, **summary.mean.to_json()},
        "tasks": {
            data.title: {
                "score": summary.tasks[data.title].to_json(),
                "metrics": {name: line.to_json() for name, line in summary.metrics[data.title].items()},
                "train_rows": len(data.train.tokens),
                "dev_rows": {suffix: len(dev.tokens) for suffix, dev in data.dev.items()},
                "notes": data.notes,
                "settings": configs.dump(config.settings(data.task.name)),
                "seconds": round(sum(result.seconds for result in results if result.task == data.task.name), 1),
            }
            for data in tasks
        },
        "skipped": skipped,
        "config": configs.dump(config),
    }


def _markdown(config, tasks, results, skipped, subject: Subject, summary: Summary) -> str:
    seeds = ", ".join(map(str, config.suite.seeds))
    lines = [
        f"# Evaluation of {Path(subject.checkpoint).name}",
        "",
        f"Checkpoint `{subject.checkpoint}`, step {subject.step}, fingerprint {subject.fingerprint[:16]}. "
        f"Started {subject.started:%Y-%m-%d %H:%M %Z}; {', '.join(f'{k} {v}' for k, v in _versions().items())}.",
        "",
        f"Points of 100: the median of {len(config.suite.seeds)} seeds ({seeds}), and in brackets the spread, which is "
        "the largest minus the smallest. A task with several metrics counts with their mean. The random-init baseline "
        "is the same model from random weights, fine-tuned in the same way. All scores are on dev rows.",
        "",
        *_score_table(summary),
        "",
        "![scores](report.png)",
        "",
        f"The mean is over {', '.join(summary.mean_over) or 'no task'}.",
        *_left_out_of_mean(config, summary, tasks),
        *(["", *_verdict(summary)] if "random" in summary.models else []),
        "",
        "## By metric",
        "",
        *_metric_table(summary),
        "",
        "## How",
        "",
        *_settings_table(config, tasks, results),
        "",
    ]
    return "\n".join([*lines, *_notes(tasks, skipped), *_submission(config, results)])


def _notes(tasks: Sequence[TaskData], skipped: dict[str, str]) -> list[str]:
    notes = [f"- {data.title}: {note}" for data in tasks for note in data.notes]
    notes += [f"- {name}: skipped: {reason}" for name, reason in skipped.items()]
    return ["## Notes", "", *notes, ""] if notes else []


def _submission(config, results: Sequence[Result]) -> list[str]:
    files = sorted(name for result in results for name in result.submission)
    if not files:
        return []
    missing = [name for name in GLUE_FILES if name not in files]
    sentence = f"In `submission/`: {', '.join(files)}; by the pretrained model of seed {config.suite.seeds[0]}."
    if missing:
        sentence += f" gluebenchmark.com also wants {', '.join(missing)}."
    return ["## Test predictions", "", sentence, ""]


def _score_table(summary: Summary) -> list[str]:
    columns = [*summary.tasks.values(), summary.mean]
    rows = [("", [line.title for line in columns])]
    rows += [(NAMES[model], [str(line.models.get(model, "–")) for line in columns]) for model in summary.models]
    if "random" in summary.models:
        rows.append(("difference", [_signed(line.difference) for line in columns]))
    rows.append(("most frequent label", [_plain(line.most_frequent) for line in columns]))
    return _table([[name, *cells] for name, cells in rows])


def _metric_table(summary: Summary) -> list[str]:
    models = summary.models
    rows = [["task", "metric", *(NAMES[model] for model in models), "difference", "most frequent label"]]
    for title, metrics in summary.metrics.items():
        rows += [[title, name, *_cells(line, models)] for name, line in metrics.items()]
    return _table(rows)


def _settings_table(config, tasks, results) -> list[str]:
    fields = ("learning_rate", "batch_size", "epochs", "dropout", "sequence_length", "pooling", "precision")
    rows = [
        ["task", "training rows", "dev rows", *(name.replace("_", " ") for name in fields), "weights of", "minutes"]
    ]
    for data in tasks:
        settings = config.settings(data.task.name)
        own = [result for result in results if result.task == data.task.name]
        epochs = sorted({result.epoch for result in own})
        dev = " + ".join(str(len(dev.tokens)) for dev in data.dev.values())
        chosen = f"{settings.select} epoch ({', '.join(map(str, epochs))})"
        minutes = f"{sum(result.seconds for result in own) / 60:.1f}"
        values = (str(getattr(settings, name)) for name in fields)
        rows.append([data.title, str(len(data.train.tokens)), dev, *values, chosen, minutes])
    return _table(rows)


def _left_out_of_mean(config, summary: Summary, tasks: Sequence[TaskData]) -> list[str]:
    ran = {data.task.name for data in tasks}
    missing = [name for name in config.suite.mean_over if name not in ran]
    return [f"It should also count {', '.join(missing)}, which did not run."] if missing else []


def _verdict(summary: Summary) -> list[str]:
    mean = summary.mean
    relation = "more" if mean.beyond_spread else "not more"
    return [
        f"Pretraining is worth {_signed(mean.difference)} points in the mean, {relation} than the spread over seeds "
        f"({max(statistic.spread for statistic in mean.models.values()):.1f})."
    ]


def _print(summary: Summary, skipped: dict[str, str], path: Path) -> None:
    console = Console()
    models = summary.models
    table = Table(title="dev scores: median of seeds (largest - smallest), points of 100")
    for name in ("task", "metric", *(NAMES[model] for model in models), "difference", "most frequent label"):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for title, metrics in summary.metrics.items():
        for name, line in metrics.items():
            table.add_row(title, name, *_cells(line, models))
    table.add_section()
    table.add_row(summary.mean.title, "", *_cells(summary.mean, models), style="bold")
    console.print(table)
    for name, reason in skipped.items():
        console.print(f"{name}: skipped: {reason}", markup=False)
    console.print(f"report: {path}", markup=False, soft_wrap=True)


def _cells(line: Line, models: Sequence[str]) -> list[str]:
    return [
        *(str(line.models.get(model, "–")) for model in models),
        _signed(line.difference),
        _plain(line.most_frequent),
    ]


def _draw(summary: Summary, path: Path, subject: Subject) -> None:
    """Grouped bars: the median of each model by task, and a dot for each seed."""
    lines = [*summary.tasks.values(), *([summary.mean] if summary.mean.models else [])]
    figure = Figure(figsize=(max(6.0, 1.5 + 1.25 * len(lines)), 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    models = summary.models
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        centres = [place + (number - (len(models) - 1) / 2) * width for place in range(len(lines))]
        medians = [line.models[model].median for line in lines]
        axes.bar(centres, medians, width * 0.94, color=COLOURS[model], label=NAMES[model], zorder=2)
        for centre, line in zip(centres, lines, strict=True):
            values = line.models[model].defined
            axes.scatter([centre] * len(values), values, s=14, color="black", zorder=3, linewidths=0)
            above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(_plain(line.models[model].median), (centre, max([0.0, *values])), **above)
    axes.set_xticks(range(len(lines)), [line.title.replace(" (", "\n(") for line in lines], fontsize=9)
    axes.set_ylabel("points of 100 (bar: median, dots: seeds)")
    axes.set_title(f"{Path(subject.checkpoint).name}, step {subject.step}: dev scores", fontsize=11)
    axes.axvline(len(lines) - 1.5, color="#888888", linewidth=0.8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", color="#e3e3e3", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=len(models), frameon=False)
    image = BytesIO()
    figure.savefig(image, format="png")
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(image.getvalue())
    aside.replace(path)


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
