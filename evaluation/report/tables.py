"""Rows of the tables of a report, as texts, for Markdown and HTML."""

import math
from collections.abc import Mapping, Sequence

from sesame.evaluation.report.content import NAMES, Content
from sesame.evaluation.report.published import published_of
from sesame.evaluation.report.rows import ReportRow
from sesame.evaluation.report.statistics import FEWEST_SEEDS, POWER, Comparison
from sesame.evaluation.report.summary import Summary

PUBLISHED_NOTE = (
    "Published figures are of larger models, other data and often other protocols; those of a test set or of an "
    "ensemble say so. Where a source does not name the metric, the task's score is compared."
)


BEST = 100.0
"""Of a score times 100; the worst correlation is its negative."""


def metric_rows(summary: Summary) -> list[list[str]]:
    """Rows of a table of all metrics, with the head."""
    models = summary.models
    rows = [["task", "metric", *(NAMES[model] for model in models), *_difference(models), "most frequent label"]]
    for title, metrics in summary.metrics.items():
        rows += [[title, name, *cells(row, models)] for name, row in metrics.items()]
    return rows


def _difference(models: Sequence[str], value: str = "difference") -> list[str]:
    """A cell of the column of differences, which only a baseline has."""
    return [value] if len(models) > 1 else []


def seed_rows(summary: Summary) -> list[list[str]]:
    """Rows of a table of every metric of every seed, with mean and standard deviation (n - 1), and the head."""
    rows = [["task", "metric", "model", "mean", "standard deviation", "by seed"]]
    for title, metrics in summary.metrics.items():
        for name, row in metrics.items():
            for model in summary.models:
                if model not in row.models:
                    continue
                values = row.models[model]
                numbers = [f"{each:.2f}" if math.isfinite(each) else "–" for each in (values.mean, values.std)]
                by_seed = ", ".join(f"{each:.2f}" if math.isfinite(each) else "undefined" for each in values.values)
                rows.append([title, name, NAMES[model], *numbers, by_seed])
    return rows


def settings_rows(content: Content) -> list[list[str]]:
    """Rows of a table of the settings of each task, with the head."""
    fields = ("learning_rate", "batch_size", "epochs", "dropout", "sequence_length", "precision")
    titles = (*(name.replace("_", " ") for name in fields), "pooling, head", "weights of", "minutes")
    rows = [["task", "training rows", "dev rows", *titles]]
    for data in content.tasks:
        settings = content.config.settings(data.task.name)
        results = [result for result in content.results if result.task == data.task.name]
        epochs = sorted({result.epoch for result in results if result.epoch})
        dev = " + ".join(str(dev.rows) for dev in data.dev.values())
        minutes = f"{sum(result.seconds for result in results) / 60:.1f}"
        values = [str(getattr(settings, name)) for name in fields]
        chosen = f"{settings.select} epoch ({', '.join(map(str, epochs))})"
        if data.train is None:
            values, chosen = ["–", "–", "–", "–", *values[-2:]], "no fine-tuning"
        rows.append(
            [
                data.title,
                str(data.train.rows) if data.train is not None else "–",
                dev,
                *values,
                content.heads[data.title],
                chosen,
                minutes,
            ]
        )
    return rows


def transposed(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """A row for each task instead of a column."""
    head, *columns = zip(*rows, strict=True)
    return [["task", *head[1:]], *map(list, columns)]


def leave_one_out_rows(summary: Summary) -> list[list[str]]:
    """Rows of a table, with the head: what the mean would be without each task."""
    models = summary.models
    rows = [["without", *(NAMES[model] for model in models), *_difference(models)]]
    for title, row in (("(all tasks)", summary.mean), *summary.leave_one_out.items()):
        rows.append([title, *cells(row, models)[:-1]])
    return rows


def published_rows(content: Content) -> list[list[str]]:
    """Rows of a table, with the head, of published figures beside the score of the pretrained model."""
    rows = [["task", "metric", "here", "published", "model", "kind", "source"]]
    for data in content.tasks:
        metrics, score = content.summary.metrics[data.title], content.summary.tasks[data.title]
        # Other rows than the official dev set's are not compared.
        for each in published_of(data.task.name) if data.title == data.task.name else ():
            ours = metrics.get(each.metric, score)
            here = ours.models["pretrained"].value if "pretrained" in ours.models else math.nan
            metric = each.metric or "score"
            rows.append([data.title, metric, plain(here), f"{each.value:.1f}", each.model, each.kind, each.source])
    return rows if len(rows) > 1 else []


def search_rows(content: Content) -> list[list[str]]:
    """Rows of a table, with the head, of the settings that were tried."""
    rows = [["task", "settings", "score on held-back training rows", ""]]
    for name, searched in content.searches.items():
        for each in searched.tried:
            shown = ", ".join(f"{key} {value:g}" for key, value in each.settings.items())
            rows.append([name, shown, plain(100 * each.score), "chosen" if each is searched.chosen else ""])
    return rows


def search_sentences(content: Content) -> list[str]:
    """Say of each searched task on which rows it was."""
    return [
        f"{name}: {each.held_back_rows} training rows held back to compare, {each.train_rows} trained on; dev rows "
        "were not looked at."
        for name, each in content.searches.items()
    ]


def cells(row: ReportRow, models: Sequence[str]) -> list[str]:
    """Cells of a row: one for each model, with a baseline the difference, and the constant prediction."""
    shown = [str(row.models.get(model, "–")) for model in models]
    return [*shown, *_difference(models, signed(row.difference)), plain(row.constant)]


def comparison_cells(comparison: Comparison, p_value: float) -> list[str]:
    """Cells of a comparison: difference, interval, corrected p-value, smallest detectable difference, verdict."""
    low, high = comparison.interval
    return [
        signed(100 * comparison.difference),
        "–" if math.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}",
        "–" if math.isnan(p_value) else f"{p_value:.3f}",
        _detectable(100 * comparison.smallest_detectable),
        comparison.verdict(p_value),
    ]


def of_set(title: str, prefix: str) -> str:
    """A title with the prefix of a dev set, if that has one: "MNLI, mm"."""
    return f"{title}, {prefix}" if prefix else title


def signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"


def detectable(row: ReportRow) -> str:
    """The smallest difference that so many seeds and rows show; without a second model it is an upper bound."""
    value, is_paired = row.smallest_detectable
    is_exact = is_paired or math.isnan(value) or value > BEST
    return _detectable(value) if is_exact else f"at most {_detectable(value)}"


def _detectable(value: float) -> str:
    return f"over {BEST:.0f}" if value > BEST else plain(value)


def between(interval: tuple[float, float]) -> str:
    """An interval in brackets after a space, cut off where no score is; empty where it is not known."""
    low, high = max(interval[0], -BEST), min(interval[1], BEST)
    return "" if math.isnan(low) or math.isnan(high) else f" [{low:.1f},\u00a0{high:.1f}]"


def plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def score_rows(summary: Summary) -> list[list[str]]:
    """Rows of a table of the scores, a column for each task, with the head."""
    columns = [*summary.tasks.values(), *([summary.mean] if len(summary.mean_over) > 1 else [])]
    rows = [("", [row.title for row in columns])]
    for model in summary.models:
        shown = [row.models.get(model) for row in columns]
        rows.append((NAMES[model], ["–" if each is None else str(each) for each in shown]))
        if any(each is not None and not math.isnan(each.interval[0]) for each in shown):
            rows.append(("95 % interval", ["–" if each is None else between(each.interval).strip() for each in shown]))
    if "random" in summary.models:
        rows.append(("difference", [signed(row.difference) for row in columns]))
    rows.append(("most frequent label", [plain(row.constant) for row in columns]))
    rows.append(("smallest detectable", [detectable(row) for row in columns]))
    return [[name, *cells] for name, cells in rows]


COMPARISON_HEAD = ["task", "difference of means", "95 % interval", "p (Holm)", "smallest detectable", "verdict"]
COMPARISON_NOTE = (
    "Interval and p-value are over seeds and dev rows: rows are resampled for both models at once, seeds count by "
    "their variance (Student's t), and p-values of tasks are corrected for their number (Holm). The smallest "
    f"detectable difference is found with a probability of {100 * POWER:.0f} %. Where predictions depend on the seed, "
    f"there is no verdict below {FEWEST_SEEDS} seeds."
)
BASELINE_NOTE = f"{COMPARISON_NOTE} The p-value of the mean over tasks is not corrected."


def comparison_rows(summary: Summary) -> list[list[str]]:
    """Rows of a table of the pretrained model against the baseline; none without one."""
    rows = (*summary.tasks.values(), summary.mean)
    return [
        [row.title, *comparison_cells(row.verdict.comparison, row.verdict.p_value)]
        for row in rows
        if row.verdict is not None
    ]


def category_rows(categories: Mapping[str, Mapping[str, float]], models: Sequence[str]) -> list[list[str]]:
    """Rows of a table of scores by category, with the head."""
    rows = [["category", *(NAMES[model] for model in models)]]
    for name, values in categories.items():
        rows.append([name, *(plain(values.get(model, math.nan)) for model in models)])
    return rows
