"""The table and the picture of all records."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from benchmarks.speedrun import trials
from benchmarks.speedrun.record import Record, Score
from sesame.configs.errors import ConfigError
from sesame.configs.storage import write_text

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PANELS = ("BLiMP", "GLUE-5")
COLUMNS = (*PANELS, "GLUE-9", "CoLA", "SST-2", "MRPC", "STS-B", "RTE", "QNLI", "MNLI", "QQP", "WNLI")
RECORDS, TRIALS = "<!-- table of records: made by `draw` -->", "<!-- table of trials: made by `draw` -->"
END = "<!-- end of the table -->"
MARKERS = "osv^D*PXph<>"


def table(records: Sequence[Record]) -> str:
    """Return the records in Markdown, the best BLiMP of each track first; rows with remarks are below the others."""
    present = [name for name in COLUMNS if any(name in record.scores for record in records)]
    head = ["track", "recipe", "minutes", "FLOPs", "words seen", *present]
    head += ["nats per word", "steps", "processor", "date", "remarks"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for record in sorted(records, key=_rank):
        cells = [record.track, record.recipe, f"{record.longest_minutes:.1f}", f"{record.flops:.2g}"]
        cells += [f"{record.words / 1e6:.1f} M", *(str(record.scores.get(name, "")) for name in present)]
        cells += [f"{record.nats_per_word.mean:.3f}", str(record.runs[0].steps), record.processor, record.date]
        cells.append("; ".join(record.remarks))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_tables(
    records: Sequence[Record], tried: Sequence[Record], readme: Path, baseline: str = trials.BASELINE
) -> None:
    """Replace both tables of a Markdown file, each between its two comments.

    Args:
        tried: the trials.
        baseline: the recipe that their gains are against.
    """
    text = readme.read_text(encoding="utf-8")
    if [text.count(comment) for comment in (RECORDS, TRIALS, END)] != [1, 1, 2]:
        raise ConfigError(f"{readme}: needs {RECORDS} and {TRIALS} once, each with {END} after its table; add them")
    text = _with_table(text, RECORDS, table(records) if records else "No record was entered yet.")
    text = _with_table(text, TRIALS, trials.table(tried, baseline) if tried else "Nothing was tried yet.")
    write_text(readme, text)


def _with_table(text: str, begin: str, content: str) -> str:
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{content}\n{END}{after}"


def draw(records: Sequence[Record], output: Path) -> None:
    """Save the picture of all records."""
    figure = figure_of(records)
    figure.savefig(output, dpi=110)
    pyplot.close(figure)


def figure_of(records: Sequence[Record]) -> Figure:
    """Return each score in ``PANELS`` against FLOPs, with the range over seeds; rows with remarks are hollow."""
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(5 * len(PANELS) + 2.5, 4.8), layout="constrained")
    recipes = list(dict.fromkeys(record.recipe for record in records))
    for panel, name in zip(panels, PANELS, strict=True):
        for record in records:
            if name in record.scores:
                _point(panel, record, record.scores[name], recipes.index(record.recipe))
        panel.set_xscale("log")
        panel.set_xlabel("training FLOPs")
        panel.set_ylabel(f"{name} (points; bar: range over seeds)")
        panel.grid(alpha=0.25)
    if records:
        # Beside the panels: a queue has more recipes than a panel has room for.
        figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, loc="outside right center")
    figure.suptitle("Score against computing; hollow: not a record (see its remarks)")
    return figure


def _point(panel: Axes, record: Record, score: Score, number: int) -> None:
    color = f"C{number % 10}"
    below, above = score.mean - min(score.by_seed), max(score.by_seed) - score.mean
    panel.errorbar(
        [record.flops],
        [score.mean],
        yerr=[[below], [above]],
        color=color,
        marker=MARKERS[number % len(MARKERS)],
        markerfacecolor="none" if record.remarks else color,
        linestyle="none",
        capsize=3,
        label=f"{record.recipe}, {record.track}{f', {record.minutes:g} minutes' if record.remarks else ''}",
    )


def _rank(record: Record) -> tuple[object, ...]:
    blimp = record.scores.get("BLiMP")
    return bool(record.remarks), record.track, -(blimp.mean if blimp else 0.0)
