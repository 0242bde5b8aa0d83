"""Plot of training and validation loss by step, with the unigram baseline."""

from pathlib import Path

from matplotlib.figure import Figure

from sesame.configs.json_lines import read_rows
from sesame.configs.storage import atomic_file
from sesame.pretrain.objectives import OBJECTIVES

STYLES: dict[str, dict[str, float | str]] = {
    "train": {"alpha": 0.55, "linewidth": 1},
    "validation": {"marker": "o", "markersize": 4},
}
"""Line style by part of the data."""


def draw(metrics: Path, plot: Path, unigram_baseline: float | None) -> None:
    """Draw the losses in ``metrics`` (JSON lines, nats) to ``plot`` (PNG), with a panel for each objective."""
    rows = read_rows(metrics)
    names = list(dict.fromkeys(name for row in rows for part in STYLES for name in row.get(part, {})))
    figure = Figure(figsize=(6.4 * len(names), 4.2))
    panels = figure.subplots(1, len(names), squeeze=False)
    for name, panel in zip(names, panels[0], strict=True):
        for part, style in STYLES.items():
            points = [(row["step"], row[part][name]) for row in rows if name in row.get(part, {})]
            if points:
                panel.plot(*zip(*points, strict=True), label=part, **style)
        if OBJECTIVES[name].predicts_tokens and unigram_baseline is not None:
            panel.axhline(unigram_baseline, color="black", linestyle="--", linewidth=1)
            panel.annotate(
                f"unigram baseline {unigram_baseline:.2f}",
                (1, unigram_baseline), xycoords=("axes fraction", "data"), xytext=(-4, 4), textcoords="offset points",
                ha="right", fontsize=8,
            )  # fmt: skip
        panel.set_title(name.replace("_", " "))
        panel.set_xlabel("optimizer step")
        panel.set_ylabel("loss (nats)")
        panel.grid(alpha=0.25)
        panel.legend()
    figure.tight_layout()
    with atomic_file(plot, durable=False) as file:
        figure.savefig(file, dpi=110, format="png")
