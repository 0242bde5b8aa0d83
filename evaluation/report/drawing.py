"""report.png: scores by task, with a dot for each seed and a line for the constant prediction."""

import math
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from sesame.configs.storage import atomic_file
from sesame.evaluation.report.content import NAMES, RunInfo
from sesame.evaluation.report.summary import Summary
from sesame.evaluation.report.tables import plain

COLOURS = {"pretrained": "#1f5fa8", "random": "#b9bec6"}


def draw(summary: Summary, path: Path, run: RunInfo, statistic: Literal["median", "mean"]) -> None:
    """Bar chart: each model by task, a dot for each seed, and the score of a constant prediction.

    Args:
        statistic: of ``summary``, the height of the bars.
    """
    rows = [*summary.tasks.values(), *([summary.mean] if summary.mean.models else [])]
    figure = Figure(figsize=(max(6.0, 1.5 + 1.25 * len(rows)), 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    models = summary.models
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        centres = [position + (number - (len(models) - 1) / 2) * width for position in range(len(rows))]
        heights = [row.models[model].value for row in rows]
        axes.bar(centres, heights, width * 0.94, color=COLOURS[model], label=NAMES[model], zorder=2)
        for centre, row in zip(centres, rows, strict=True):
            values = row.models[model].defined
            axes.scatter([centre] * len(values), values, s=14, color="black", zorder=3, linewidths=0)
            annotation = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(plain(row.models[model].value), (centre, max([0.0, *values])), **annotation)
    constants = [(position, row.constant) for position, row in enumerate(rows) if not math.isnan(row.constant)]
    if constants:
        starts, ends = zip(*((position - 0.45, position + 0.45) for position, _ in constants), strict=True)
        style = {"colors": "#c0392b", "linestyles": "dashed", "linewidth": 1.4, "zorder": 4}
        axes.hlines([value for _, value in constants], starts, ends, label="always the most frequent label", **style)
    axes.set_xticks(range(len(rows)), [row.title.replace(" (", "\n(") for row in rows], fontsize=9)
    axes.set_ylabel(f"score, times 100 (bars: {statistic}, dots: seeds)")
    axes.set_title(f"{Path(run.checkpoint).name}, step {run.step}: dev scores", fontsize=11)
    axes.axvline(len(rows) - 1.5, color="#888888", linewidth=0.8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(axis="y", color="#e3e3e3", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    figure.legend(loc="outside lower center", ncols=len(models) + 1, frameon=False)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
