"""Report of an evaluation: report.html, report.md, report.json, report.png, and a table on the terminal."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sesame import configs
from sesame.configs.storage import write_text
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.confusion import confusions
from sesame.evaluation.report.content import Content, versions
from sesame.evaluation.report.drawing import draw
from sesame.evaluation.report.examples import write_texts
from sesame.evaluation.report.markdown import markdown
from sesame.evaluation.report.page import page
from sesame.evaluation.report.published import published_of
from sesame.evaluation.report.rows import number
from sesame.evaluation.report.tables import cells, metric_rows


def write(output: Path, content: Content) -> Path:
    """Write the files into ``output`` and print the table.

    Returns:
        The path of ``report.md``.
    """
    write_text(output / "report.json", json.dumps(_json(content), indent=2))
    draw(content.summary, output / "report.png", content.run, content.config.suite.statistic)
    for data in content.tasks:
        if texts := content.texts.get(data.title):
            write_texts(output, data, texts)
    write_text(output / "report.html", page(content))
    path = output / "report.md"
    write_text(path, markdown(content))
    _print(content, path)
    return path


def _json(content: Content) -> dict[str, object]:
    run, summary = content.run, content.summary
    return {
        "checkpoint": run.checkpoint,
        "step": run.step,
        "fingerprint": run.fingerprint,
        "started": run.started.isoformat(timespec="seconds"),
        "device": run.device,
        "versions": versions(),
        "unit": "points of 100; by_seed in the order of suite.seeds; spread = largest - smallest",
        "mean": {
            "over": summary.mean_over,
            **summary.mean.to_json(),
            "without": {title: row.to_json() for title, row in summary.leave_one_out.items()},
        },
        "tasks": {data.title: _task(content, data) for data in content.tasks},
        "skipped": dict(content.skipped),
        "predictions": list(content.predictions),
        "command": content.repeat.command,
        "sha256": dict(content.repeat.files),
        "config": content.config.recipe(),
    }


def _task(content: Content, data: TaskData) -> dict[str, object]:
    summary = content.summary
    return {
        "task": data.task.name,
        "score": summary.tasks[data.title].to_json(),
        "metrics": {name: row.to_json() for name, row in summary.metrics[data.title].items()},
        "by_category": {
            metric: {
                category: {model: number(value) for model, value in by_model.items()}
                for category, by_model in categories.items()
            }
            for metric, categories in content.categories[data.title].items()
        },
        # Read by `sesame compare`.
        "results": sorted({each.name for each in content.results if each.task == data.task.name and each.name}),
        "counted": {prefix: list(data.task.metrics_of(prefix)) for prefix in data.counted_dev},
        "train_rows": data.train.rows if data.train is not None else None,
        "dev_rows": {prefix: dev.rows for prefix, dev in data.dev.items()},
        "published": [each._asdict() for each in published_of(data.task.name)],
        "confusion": [
            {"dev": each.prefix, "model": each.model, "labels": list(each.labels), "rows": each.counts.tolist()}
            for each in confusions(data, content.results)
        ],
        "search": content.searches[data.task.name].to_json() if data.task.name in content.searches else None,
        "notes": content.notes(data),
        "head": content.heads[data.title],
        "settings": configs.dump(content.config.settings(data.task.name)),
        "seconds": round(sum(result.seconds for result in content.results if result.task == data.task.name), 1),
    }


def _print(content: Content, path: Path) -> None:
    console = Console()
    summary, models = content.summary, content.summary.models
    statistic = content.config.suite.statistic
    table = Table(title=f"dev scores, times 100: {statistic} over seeds (spread: largest - smallest)")
    head, *rows = metric_rows(summary)
    for name in head:
        table.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    table.add_row(summary.mean.title, "", *cells(summary.mean, models), style="bold")
    console.print(table)
    for result in content.results:
        if result.error:
            console.print(f"{result.task}, {result.model}, seed {result.seed}: {result.error}", markup=False)
    for name, reason in content.skipped.items():
        console.print(f"{name}: skipped: {reason}", markup=False)
    for line in content.predictions:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"report: {path}", markup=False, soft_wrap=True)
    console.print(f"page: {path.with_name('report.html')}", markup=False, soft_wrap=True)
