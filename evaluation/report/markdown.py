"""report.md: scores with intervals, settings, and everything that qualifies them."""

from collections.abc import Sequence
from pathlib import Path

from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.report.confusion import MOST_CLASSES, confusions
from sesame.evaluation.report.content import Content, versions
from sesame.evaluation.report.examples import Example
from sesame.evaluation.report.summary import Summary
from sesame.evaluation.report.tables import (
    BASELINE_NOTE,
    COMPARISON_HEAD,
    PUBLISHED_NOTE,
    category_rows,
    comparison_rows,
    leave_one_out_rows,
    metric_rows,
    of_set,
    published_rows,
    score_rows,
    search_rows,
    search_sentences,
    seed_rows,
    settings_rows,
    transposed,
)

WIDEST = 11
"""Columns of a table of scores; of more tasks each has a row."""


def markdown(content: Content) -> str:
    """Return the text of the report."""
    config, run, summary = content.config, content.run, content.summary
    seeds, scores = ", ".join(map(str, config.suite.seeds)), score_rows(summary)
    lines = [
        f"# Evaluation of {Path(run.checkpoint).name}",
        "",
        f"Checkpoint `{run.checkpoint}`, step {run.step}, fingerprint {run.fingerprint[:16]}. "
        f"Started {run.started:%Y-%m-%d %H:%M %Z} on {run.device}; {_versions()}.",
        "",
        *protocol_lines(config),
        f"Scores on dev rows, times 100: {config.suite.statistic} over {len(config.suite.seeds)} seeds ({seeds}), with "
        "the spread (largest minus smallest) in parentheses. The score of a task is the mean of its metrics. The "
        "random-init baseline is the same model with random initial weights, fine-tuned in the same way.",
        "",
        *table(scores if len(scores[0]) <= WIDEST else transposed(scores)),
        "",
        "![scores](report.png)",
        "",
        f"The mean is over {', '.join(summary.mean_over) or 'no task'}.",
        *_missing_in_mean(content),
        "",
        *_comparisons(summary),
        *_leave_one_out(summary),
        "## By metric",
        "",
        *table(metric_rows(summary)),
        "",
        "## By seed",
        "",
        *table(seed_rows(summary)),
        "",
        *_category_tables(content),
        *_published(content),
        *_confusions(content),
        *_examples(content),
        "## Settings",
        "",
        *table(settings_rows(content)),
        "",
        *_searches(content),
        *_notes(content),
        *(["## Test predictions", "", *content.predictions, ""] if content.predictions else []),
        *_repeat(content),
    ]
    return "\n".join(lines)


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _category_tables(content: Content) -> list[str]:
    lines = []
    for data in content.tasks:
        for metric, categories in content.categories[data.title].items():
            rows = category_rows(categories, content.summary.models)
            lines += [f"## {data.title}: {metric} by category, mean over seeds", "", *table(rows), ""]
    return lines


def _comparisons(summary: Summary) -> list[str]:
    """Pretrained against the random-init baseline, with what these seeds and rows can show."""
    rows = comparison_rows(summary)
    title = "## Pretrained against the random-init baseline"
    return [title, "", *table([COMPARISON_HEAD, *rows]), "", BASELINE_NOTE, ""] if rows else []


def protocol_lines(config: EvaluationConfig) -> list[str]:
    """Say whose way of fine-tuning this is."""
    protocol = config.protocol
    if protocol is None:
        return []
    differences = "; ".join(protocol.differences)
    return [
        f"Protocol: {protocol.name} ({protocol.source}).{f' Not as published: {differences}.' if differences else ''}",
        "",
    ]


def _leave_one_out(summary: Summary) -> list[str]:
    if len(summary.leave_one_out) < 2:
        return []
    return ["## The mean without one of its tasks", "", *table(leave_one_out_rows(summary)), ""]


def _published(content: Content) -> list[str]:
    rows = published_rows(content)
    return ["## Published figures", "", PUBLISHED_NOTE, "", *table(rows), ""] if rows else []


def _confusions(content: Content) -> list[str]:
    lines: list[str] = []
    for data in content.tasks:
        for each in confusions(data, content.results):
            if each.model == "pretrained" and len(each.labels) <= MOST_CLASSES:
                title = of_set(data.title, each.prefix)
                rows = [[f"{title}: label \\ answer", *each.labels]]
                rows += [
                    [label, *(f"{count:.1f}" for count in counts)]
                    for label, counts in zip(each.labels, each.counts, strict=True)
                ]
                lines += [*table(rows), ""]
    return ["## Confusion matrices", "", "Rows of the pretrained model, mean over seeds.", "", *lines] if lines else []


def _examples(content: Content) -> list[str]:
    lines: list[str] = []
    for data in content.tasks:
        for prefix, sides in content.disagreements(data).items():
            lines += [f"### {of_set(data.title, prefix)}", ""]
            for name, some in zip(("pretrained", "random-init baseline"), sides, strict=True):
                lines += [f"- {name} better: {example_line(each)}" for each in some[:2]]
            lines.append("")
    return ["## Rows on which both disagree", "", *lines] if lines else []


def example_line(each: Example) -> str:
    """One row as text: its texts cut short, its label and both answers."""
    texts = " / ".join(text if len(text) < 200 else f"{text[:197]}..." for text in each.texts)
    shown = texts.replace("\n", " ").replace("|", "\\|") or "(text not kept)"
    return f"row {each.row}: {shown}; label {each.label}; answers {' and '.join(each.answers)}"


def _searches(content: Content) -> list[str]:
    if not content.searches:
        return []
    return ["## Search", "", *search_sentences(content), "", *table(search_rows(content)), ""]


def _repeat(content: Content) -> list[str]:
    command = content.repeat.command
    lines = ["## To repeat it", "", "`evaluation.toml` in this folder has all settings:", "", "```sh"]
    lines += [f"{command}    # as it was started" if command else "", "sesame evaluate evaluation.toml", "```", ""]
    rows = [["file", "SHA-256"], *([name, value] for name, value in content.repeat.files.items())]
    return [*lines, *(table(rows) if len(rows) > 1 else []), ""]


def _notes(content: Content) -> list[str]:
    notes = [f"- {data.title}: {note}" for data in content.tasks for note in content.notes(data)]
    notes += [f"- {name}: skipped: {reason}" for name, reason in content.skipped.items()]
    return ["## Notes", "", *notes, ""] if notes else []


def _missing_in_mean(content: Content) -> list[str]:
    config: EvaluationConfig = content.config
    ran = {data.task.name for data in content.tasks}
    missing = [name for name in config.suite.mean_over if name not in ran]
    return [f"It does not include {', '.join(missing)}, which did not run."] if missing else []


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table whose first row is the header."""
    head, *body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return [head, "|---|" + "---:|" * (len(rows[0]) - 1), *body]
