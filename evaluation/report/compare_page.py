"""``sesame compare --output``: a page about two checkpoints: differences with intervals, and examples."""

from html import escape
from pathlib import Path

from sesame.configs.storage import write_text
from sesame.evaluation.report.compare import HEAD, ComparedReports, comparison_lines
from sesame.evaluation.report.dot_plot import Mark, Plot, PlotRow
from sesame.evaluation.report.figures import example_blocks
from sesame.evaluation.report.page import STYLE, facts
from sesame.evaluation.report.tables import COMPARISON_NOTE, of_set, signed
from sesame.pretrain.monitoring.document import document, section, table


def write_compare_page(compared: ComparedReports, output: Path) -> Path:
    """Write the page to the file ``output``."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, compare_page(compared), durable=False)
    return output


def compare_page(compared: ComparedReports) -> str:
    """Return the page as HTML."""
    title = f"{compared.names[0]} against {compared.names[1]}"
    folders = [
        (place, f"{name} ({folder})")
        for place, name, folder in zip(("first", "second"), compared.names, compared.folders, strict=True)
    ]
    notes = "".join(f"<p>{escape(each)}</p>" for each in compared.notes)
    note = f'<p class="soft">{escape(COMPARISON_NOTE)}</p>'
    rows = table([HEAD, *comparison_lines(compared)], classes="numbers")
    parts = [
        f"<h1>{escape(title)}</h1>",
        facts([*folders, ("command", f"sesame compare {' '.join(map(str, compared.folders))}")]),
        section("Differences", _plot(compared) + rows + note + notes),
        section("Rows on which they disagree", _examples(compared) or "<p>None.</p>"),
    ]
    return document(title, parts, STYLE.read_text(encoding="utf-8"))


def _plot(compared: ComparedReports) -> str:
    rows = []
    for title, each in compared.tasks.items():
        difference = 100 * each.comparison.difference
        low, high = (100 * end for end in each.comparison.interval)
        mark = Mark(difference, (low, high), (), 0, f"{signed(difference)}, {each.comparison.verdict(each.p_value)}")
        rows.append(PlotRow(title, [mark]))
    unit = "difference of mean scores, times 100, with its 95 % interval; right of 0 the first is better"
    return Plot("Difference of the first and the second", unit, [], rows, zero=True).html()


def _examples(compared: ComparedReports) -> str:
    parts = []
    for title, task in compared.tasks.items():
        for prefix, sides in task.examples.items():
            for place, some in zip(("first", "second"), sides, strict=True):
                name = f"{of_set(title, prefix)}: the {place} is better"
                blocks = example_blocks(some, ("first", "second"))
                parts.append(f"<h3>{escape(name)}</h3>{blocks}" if some else "")
    return "".join(parts)
