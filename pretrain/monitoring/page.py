"""``sesame report``: one HTML page about one run or several, with everything in it, for any browser and for paper."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from sesame.configs.storage import write_text
from sesame.pretrain.monitoring.curves import COLOURS, NamedRun, charts, step_range
from sesame.pretrain.monitoring.document import document, section, table
from sesame.pretrain.monitoring.record import RunFiles, short_names
from sesame.pretrain.monitoring.summary import last_start, summary
from sesame.pretrain.reporting.trackers import flat

NAME = "report.html"
MOST_EVENTS = 500
"""Rows of the table of events."""
NOTES = """
Tokens are real tokens: no padding is computed. FLOPs of the model are 6 for each weight of a matrix product and token
that passes it, and 12 for each entry of the heads and pair of query and key, forward and backward together (Kaplan et
al. 2020); recomputation, embeddings and norms are not counted. Model-FLOPs use is their number divided by the time
between two reports and by the peak of all processes' devices. The time of a step is the mean over the processes;
communication is what a process spends in collectives, waiting for others included; other is what lies between the
phases, such as counting FLOPs and reporting. Validation is not in it. Memory is the most that tensors have taken on a
GPU, and what the process has resident on a CPU. Where there are more reports than a chart has room for, the line is the
mean of so many of them, and the pale one behind it joins the highest and the lowest of each part.
"""


def write_page(folders: Sequence[Path], output: Path | None) -> Path:
    """Write the page about the runs in ``folders``.

    Args:
        output: file; None: ``report.html`` in the folder of the first run.

    Returns:
        The file.

    Raises:
        SesameError: a folder has no run.
    """
    runs = [NamedRun(name, RunFiles(folder)) for name, folder in zip(short_names(folders), folders, strict=True)]
    path = output or folders[0] / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(runs), durable=False)
    return path


def page(runs: Sequence[NamedRun]) -> str:
    """Return the page as HTML."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    steps = step_range(runs)
    parts = [
        f"<h1>Training report: {escape(title)}</h1>",
        f'<p class="soft">Written on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}.'
        '<span class="screen"> Hover over a chart for values, drag to zoom all charts, double-click to zoom out.</span>'
        "</p>",
        section("Summary", _table([["", *(each.name for each in runs)], *summary(runs)], runs=runs)),
        section("Curves", f'<div class="charts">{"".join(chart.html(steps) for chart in charts(runs))}</div>'),
        _events(runs),
        _changes(runs),
        _differences(runs) if len(runs) > 1 else "",
        *(_configuration(each, is_open=len(runs) == 1) for each in runs),
        section("How the numbers are computed", f'<p class="soft">{NOTES.strip()}</p>{_peaks(runs)}'),
    ]
    return document(f"{title} - training report", parts)


def flat_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a configuration by dotted key, as text."""
    return {key: _text(value) for key, value in flat(config, ".")}


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    return ", ".join(map(_text, value)) or "none" if isinstance(value, list) else str(value)


def _events(runs: Sequence[NamedRun]) -> str:
    rows = [[*([each.name] if len(runs) > 1 else []), *_event_cells(row)] for each in runs for row in each.run.events]
    if not rows:
        return ""
    head = [*(["run"] if len(runs) > 1 else []), "step", "time", "kind", "rank", "value", "action", "message"]
    left_out = f"<p>{len(rows) - MOST_EVENTS} more are in events.jsonl.</p>" if len(rows) > MOST_EVENTS else ""
    return section("Events", table([head, *rows[:MOST_EVENTS]], classes="events") + left_out)


def _event_cells(row: Mapping[str, Any]) -> list[str]:
    moment = row.get("time")
    if isinstance(moment, int | float):
        moment = f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S}"
    cells = [row["step"], moment, row.get("kind"), row.get("rank"), row.get("value"), row.get("action")]
    return [*("" if cell is None else _text(cell) for cell in cells), str(row.get("message") or "")]


def _changes(runs: Sequence[NamedRun]) -> str:
    """Settings that were changed when a run was resumed."""
    rows = []
    for name, run in runs:
        for before, after in zip(run.starts, run.starts[1:], strict=False):
            old, new = flat_config(before.get("config", {})), flat_config(after.get("config", {}))
            changed = [
                f"{key} {old.get(key, 'unset')} → {new.get(key, 'unset')}"
                for key in dict.fromkeys((*old, *new))
                if old.get(key) != new.get(key)
            ]
            rows.append([name, str(after.get("step", "")), str(after.get("time", "")), "; ".join(changed) or "nothing"])
    return section("Resumed", _table([["run", "at step", "time", "settings changed"], *rows])) if rows else ""


def _differences(runs: Sequence[NamedRun]) -> str:
    configs = [flat_config(each.run.config) for each in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key != "output")
    rows = [[key, *(config.get(key, "–") for config in configs)] for key in keys]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    shown = _table([["setting", *(each.name for each in runs)], *differing], runs=runs)
    return section("Settings that differ", shown if differing else "<p>None.</p>")


def _configuration(each: NamedRun, *, is_open: bool) -> str:
    config = each.run.config
    if not config:
        return ""
    alone = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
    sections = {"run": alone} | {key: value for key, value in config.items() if isinstance(value, Mapping)}
    tables = {name: list(map(list, flat_config(values).items())) for name, values in sections.items()}
    blocks = "".join(
        f"<div><b>{escape(name)}</b>{_table(rows, has_head=False)}</div>" for name, rows in tables.items() if rows
    )
    title = "Configuration" if is_open else f"Configuration of {each.name}"
    body = f'<div class="config">{blocks}</div>'
    if is_open:
        return section(title, body)
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _peaks(runs: Sequence[NamedRun]) -> str:
    sources = {each.name: last_start(each.run, "peak_source") for each in runs}
    return "".join(
        f'<p class="soft">Peak of {escape(name)}: {escape(str(text))}.</p>' for name, text in sources.items() if text
    )


def _table(rows: Sequence[Sequence[str]], *, has_head: bool = True, runs: Sequence[NamedRun] = ()) -> str:
    """Return a table; the heads of runs have the colours of their curves."""
    is_coloured = len(runs) > 1
    colours = ["", *(f"c{number % COLOURS} name" for number in range(len(rows[0]) - 1))] if is_coloured else []
    return table(rows, has_head=has_head, head_classes=colours)
