"""report.md: scores with intervals, settings, and everything that qualifies them."""

import math
from collections.abc import Sequence
from pathlib import Path

from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.report.content import NAMES, Content, versions
from sesame.evaluation.report.statistics import FEWEST_SEEDS, POWER, Comparison
from sesame.evaluation.report.summary import ReportRow, Summary


def markdown(content: Content) -> str:
    """Return the text of the report."""
    config, run, summary = content.config, content.run, content.summary
    seeds = ", ".join(map(str, config.suite.seeds))
    lines = [
        f"# Evaluation of {Path(run.checkpoint).name}",
        "",
        f"Checkpoint `{run.checkpoint}`, step {run.step}, fingerprint {run.fingerprint[:16]}. "
        f"Started {run.started:%Y-%m-%d %H:%M %Z} on {run.device}; {_versions()}.",
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
        *_missing_in_mean(content),
        "",
        *_comparisons(summary),
        "## By metric",
        "",
        *_metric_table(summary),
        "",
        *_category_tables(content),
        "## Settings",
        "",
        *_settings_table(content),
        "",
        *_notes(content),
        *(["## Test predictions", "", *content.predictions, ""] if content.predictions else []),
    ]
    return "\n".join(lines)


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _score_table(summary: Summary) -> list[str]:
    columns = [*summary.tasks.values(), summary.mean]
    rows = [("", [row.title for row in columns])]
    rows += [(NAMES[model], [str(row.models.get(model, "–")) for row in columns]) for model in summary.models]
    if "random" in summary.models:
        rows.append(("difference", [signed(row.difference) for row in columns]))
    rows.append(("most frequent label", [plain(row.constant) for row in columns]))
    return table([[name, *cells] for name, cells in rows])


def _metric_table(summary: Summary) -> list[str]:
    models = summary.models
    rows = [["task", "metric", *(NAMES[model] for model in models), "difference", "most frequent label"]]
    for title, metrics in summary.metrics.items():
        rows += [[title, name, *cells(row, models)] for name, row in metrics.items()]
    return table(rows)


def _category_tables(content: Content) -> list[str]:
    lines = []
    for data in content.tasks:
        for metric, categories in content.categories[data.title].items():
            models = content.summary.models
            rows = [["category", *(NAMES[model] for model in models)]]
            rows += [
                [name, *(plain(values.get(model, math.nan)) for model in models)] for name, values in categories.items()
            ]
            lines += [f"## {data.title}: {metric} by category, mean over seeds", "", *table(rows), ""]
    return lines


def _comparisons(summary: Summary) -> list[str]:
    """Pretrained against the random-init baseline, with what these seeds and rows can show."""
    rows = [row for row in (*summary.tasks.values(), summary.mean) if row.verdict is not None]
    if not rows:
        return []
    lines = [["task", "difference of means", "95 % interval", "p (Holm)", "smallest detectable", "verdict"]]
    for row in rows:
        assert row.verdict is not None
        lines.append([row.title, *comparison_cells(row.verdict.comparison, row.verdict.p_value)])
    return [
        "## Pretrained against the random-init baseline",
        "",
        *table(lines),
        "",
        "Interval and p-value are over seeds and dev rows: rows are resampled for both models at once, seeds count by "
        "their variance (Student's t), and p-values of tasks are corrected for their number (Holm). The smallest "
        f"detectable difference is found with a probability of {100 * POWER:.0f} %. Below {FEWEST_SEEDS} seeds there "
        "is no verdict.",
        "",
    ]


def _settings_table(content: Content) -> list[str]:
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
    return table(rows)


def _notes(content: Content) -> list[str]:
    notes = [f"- {data.title}: {note}" for data in content.tasks for note in content.notes(data)]
    notes += [f"- {name}: skipped: {reason}" for name, reason in content.skipped.items()]
    return ["## Notes", "", *notes, ""] if notes else []


def _missing_in_mean(content: Content) -> list[str]:
    config: EvaluationConfig = content.config
    ran = {data.task.name for data in content.tasks}
    missing = [name for name in config.suite.mean_over if name not in ran]
    return [f"It does not include {', '.join(missing)}, which did not run."] if missing else []


def cells(row: ReportRow, models: Sequence[str]) -> list[str]:
    """Cells of a row: one for each model, the difference, and the constant prediction."""
    return [*(str(row.models.get(model, "–")) for model in models), signed(row.difference), plain(row.constant)]


def comparison_cells(comparison: Comparison, p_value: float) -> list[str]:
    """Cells of a comparison: difference, interval, corrected p-value, smallest detectable difference, verdict."""
    low, high = comparison.interval
    return [
        signed(100 * comparison.difference),
        "–" if math.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}",
        "–" if math.isnan(p_value) else f"{p_value:.3f}",
        plain(100 * comparison.smallest_detectable),
        comparison.verdict(p_value),
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table whose first row is the header."""
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return [head, "|---|" + "---:|" * (len(rows[0]) - 1), *body]


def signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"


def plain(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
