"""report.html: one page with everything in it, for any browser and for paper, without a network."""

from html import escape
from pathlib import Path

from sesame.evaluation.report.content import NAMES, Content, versions
from sesame.evaluation.report.figures import confusion_tables, example_blocks, learning_curves, score_plot
from sesame.evaluation.report.repeat import NAME as SETTINGS_FILE
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
from sesame.pretrain.monitoring.document import document, section, table

STYLE = Path(__file__).with_name("page.css")


def page(content: Content) -> str:
    """Return the page as HTML."""
    name = Path(content.run.checkpoint).name
    parts = [
        f"<h1>Evaluation of {escape(name)}</h1>",
        facts(_facts(content)),
        section("Scores", score_plot(content) + table(transposed(score_rows(content.summary)), classes="numbers")),
        _optional("Pretrained against the random-init baseline", _comparisons(content)),
        _optional("The mean without one of its tasks", _numbers(leave_one_out_rows(content.summary), 3)),
        section("By metric", table(metric_rows(content.summary), classes="numbers")),
        section("By seed", table(seed_rows(content.summary), classes="numbers")),
        _optional("Published figures", _published(content)),
        _optional("Learning curves", learning_curves(content)),
        _optional("Confusion matrices", _confusions(content)),
        _optional("Scores by category, mean over seeds", _categories(content)),
        _optional("Rows on which the models disagree", _examples(content)),
        section("Settings", table(settings_rows(content), classes="numbers")),
        _optional("Search", _search(content)),
        _optional("Notes", _notes(content)),
        section("To repeat it", _repeat(content)),
    ]
    return document(f"Evaluation of {name}", parts, STYLE.read_text(encoding="utf-8"))


def facts(rows: list[tuple[str, str]]) -> str:
    """Return names with their values, without those that have none."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    return f'<dl class="facts">{items}</dl>'


def _facts(content: Content) -> list[tuple[str, str]]:
    config, run = content.config, content.run
    protocol = config.protocol
    return [
        ("checkpoint", f"{run.checkpoint}, step {run.step}"),
        ("fingerprint", run.fingerprint),
        ("started", f"{run.started:%Y-%m-%d %H:%M %Z} on {run.device}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
        ("protocol", f"{protocol.name}: {protocol.source}" if protocol is not None else ""),
        ("not as published", "; ".join(protocol.differences) if protocol is not None else ""),
        ("seeds", f"{', '.join(map(str, config.suite.seeds))}; {config.suite.statistic} over them"),
        ("mean over", ", ".join(content.summary.mean_over)),
        ("skipped", ", ".join(content.skipped)),
    ]


def _optional(title: str, body: str) -> str:
    return section(title, body) if body else ""


def _numbers(rows: list[list[str]], least: int = 2) -> str:
    return table(rows, classes="numbers") if len(rows) >= least else ""


def _comparisons(content: Content) -> str:
    rows = comparison_rows(content.summary)
    if not rows:
        return ""
    return table([COMPARISON_HEAD, *rows], classes="numbers") + f'<p class="soft">{escape(BASELINE_NOTE)}</p>'


def _published(content: Content) -> str:
    rows = published_rows(content)
    return f'<p class="soft">{escape(PUBLISHED_NOTE)}</p>{table(rows)}' if rows else ""


def _confusions(content: Content) -> str:
    tables = {data.title: confusion_tables(data, content) for data in content.tasks}
    return "".join(f"<h3>{escape(title)}</h3>{body}" for title, body in tables.items() if body)


def _examples(content: Content) -> str:
    parts = []
    for data in content.tasks:
        for prefix, sides in content.disagreements(data).items():
            for model, some in zip(NAMES.values(), sides, strict=True):
                title = f"{of_set(data.title, prefix)}: {model} better"
                names = (NAMES["pretrained"], NAMES["random"])
                parts.append(f"<h3>{escape(title)}</h3>{example_blocks(some, names)}" if some else "")
    return "".join(parts)


def _categories(content: Content) -> str:
    parts = []
    for data in content.tasks:
        for metric, categories in content.categories[data.title].items():
            rows = category_rows(categories, content.summary.models)
            parts.append(f"<h3>{escape(f'{data.title}: {metric}')}</h3>{table(rows, classes='numbers')}")
    return "".join(parts)


def _search(content: Content) -> str:
    if not content.searches:
        return ""
    sentences = "".join(f"<p>{escape(each)}</p>" for each in search_sentences(content))
    return sentences + table(search_rows(content), classes="numbers")


def _notes(content: Content) -> str:
    notes = [f"{data.title}: {note}" for data in content.tasks for note in content.notes(data)]
    notes += [f"{name}: skipped: {reason}" for name, reason in content.skipped.items()]
    notes += [line.replace("`", "") for line in content.predictions]
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def _repeat(content: Content) -> str:
    command = content.repeat.command
    started = f"{command}    # as it was started\n" if command else ""
    rows = [["file", "SHA-256"], *([name, value] for name, value in content.repeat.files.items())]
    files = f"<details><summary>Checksums of the task files</summary>{table(rows)}</details>" if len(rows) > 1 else ""
    settings = escape(content.repeat.settings)
    shown = f"<details><summary>{SETTINGS_FILE}</summary><pre>{settings}</pre></details>" if settings else ""
    return f"<pre>{escape(started)}sesame evaluate {SETTINGS_FILE}</pre>{shown}{files}"
