"""Pictures of a report as HTML: scores with intervals, learning curves, confusion matrices, examples."""

from collections.abc import Sequence
from html import escape

import numpy as np

from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.report.confusion import MOST_CLASSES, Confusion, confusions
from sesame.evaluation.report.content import NAMES, Content
from sesame.evaluation.report.dot_plot import Mark, Plot, PlotRow
from sesame.evaluation.report.examples import Example
from sesame.evaluation.report.rows import ReportRow
from sesame.evaluation.report.tables import between, of_set, plain
from sesame.evaluation.results.result import Result
from sesame.pretrain.monitoring.chart import Chart, Curve
from sesame.pretrain.monitoring.document import table
from sesame.pretrain.monitoring.scale import mean_rows

COLOURS = {"pretrained": 0, "random": 6}
"""Numbers of colours of the style sheet."""
BUCKETS = 60
"""Parts of a learning curve, each of which is a mean."""


def score_plot(content: Content) -> str:
    """Draw the score of each task with its seeds, its interval and the constant answer."""
    summary = content.summary
    total = [_plot_row(summary.mean, is_total=True)] if len(summary.mean_over) > 1 else []
    rows = [*(_plot_row(row) for row in summary.tasks.values()), *total]
    legend = [(f"c{COLOURS[model]}", NAMES[model]) for model in summary.models]
    if any(not np.isnan(row.constant) for row in summary.tasks.values()):
        legend.append(("constant", "always the most frequent label"))
    unit = f"score, times 100 (full: {content.config.suite.statistic}; open: seeds; bar: 95 % interval of the mean)"
    lowest = min((value for row in rows for mark in row.marks for value in mark.dots), default=0.0)
    return Plot("Dev scores", unit, legend, rows, bounds=(min(0.0, lowest), 100.0)).html()


def _plot_row(row: ReportRow, *, is_total: bool = False) -> PlotRow:
    marks = []
    for model, each in row.models.items():
        text = f"{plain(each.value)}{between(each.interval)}"
        marks.append(Mark(each.value, each.interval, each.defined, COLOURS[model], text))
    return PlotRow(row.title, marks, row.constant, is_total)


def learning_curves(content: Content) -> str:
    """Draw the training loss of each task by step, a mean over seeds, and dev scores by epoch if there are some."""
    charts = []
    for data in content.tasks:
        results = [each for each in content.results if each.task == data.task.name]
        curves = [
            Curve(NAMES[model], points, COLOURS[model])
            for model in content.summary.models
            if (points := _loss_points([each for each in results if each.model == model]))
        ]
        if curves:
            steps = (1.0, max(2.0, *(curve.points[-1][0] for curve in curves)))
            unit = "mean squared error" if data.task.has_scores else "training loss (nats)"
            charts.append(Chart(data.title, unit, curves, from_zero=True).html(steps))
        if points := _dev_points([each for each in results if each.model == "pretrained"]):
            title = f"{data.title}: dev score, from which the best epoch is selected"
            curve = Curve(NAMES["pretrained"], points, COLOURS["pretrained"], has_markers=True)
            charts.append(
                Chart(title, "score, times 100", [curve], across="epoch").html((1.0, max(2.0, points[-1][0])))
            )
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _loss_points(results: Sequence[Result]) -> list[tuple[float, float]]:
    losses = [each.losses for each in results if len(each.losses)]
    if not losses:
        return []
    mean = np.mean([each[: min(map(len, losses))] for each in losses], axis=0)
    rows = [(float(step), float(value)) for step, value in enumerate(mean, 1)]
    return [(row[0], row[1]) for row in mean_rows(rows, BUCKETS)]


def _dev_points(results: Sequence[Result]) -> list[tuple[float, float]]:
    scores = [each.dev_scores for each in results if each.dev_scores]
    return [(float(epoch), 100 * float(np.mean(each))) for epoch, each in enumerate(zip(*scores, strict=True), 1)]


def confusion_tables(data: TaskData, content: Content) -> str:
    """Show the confusion matrices of a task."""
    blocks = [
        _matrix(each) if len(each.labels) <= MOST_CLASSES else _pairs(each)
        for each in confusions(data, content.results)
    ]
    return f'<div class="matrices">{"".join(f"<div>{block}</div>" for block in blocks)}</div>' if blocks else ""


def _name(each: Confusion) -> str:
    return of_set(NAMES[each.model], each.prefix)


def _matrix(each: Confusion) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in each.labels)
    rows = []
    for label, counts, shares in zip(each.labels, each.counts, each.shares, strict=True):
        cells = "".join(
            f'<td class="cell" style="--share:{share:.2f}" title="{count:.1f} rows">{100 * share:.0f}</td>'
            for count, share in zip(counts, shares, strict=True)
        )
        rows.append(f"<tr><td>{escape(label)}</td>{cells}<td>{counts.sum():.0f}</td></tr>")
    return (
        f'<table class="matrix"><caption>{escape(_name(each))}</caption><thead><tr><th>label \\ answer, %</th>{head}'
        f"<th>rows</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _pairs(each: Confusion) -> str:
    rows = [["label", "answer", "rows"]]
    rows += [[label, answer, f"{count:.1f}"] for label, answer, count in each.most_confused()]
    return f"<b>{escape(_name(each))}: most frequent confusions, mean over seeds</b>{table(rows, classes='numbers')}"


def example_blocks(examples: Sequence[Example], names: tuple[str, str]) -> str:
    """Show rows with the answers of two models."""
    blocks = []
    for each in examples:
        texts = "".join(f"<blockquote>{escape(text)}</blockquote>" for text in each.texts)
        answers = "; ".join(
            f"{escape(name)}: {escape(answer)}" for name, answer in zip(names, each.answers, strict=True)
        )
        row = f'<span class="soft">row {escape(each.row)}, label</span> <b>{escape(each.label)}</b>'
        blocks.append(f'<div class="example">{row}{texts}<span class="soft">{answers}</span></div>')
    return f'<div class="examples">{"".join(blocks)}</div>'
