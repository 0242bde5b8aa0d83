"""Train the small config of every run on the embedded corpus, and plot all validation losses in one figure.

    .venv/bin/python benchmarks/families.py

Missing corpora are prepared, and complete runs are not repeated; the figure is ``benchmarks/families.png``. A curve is
the validation loss below the unigram baseline: the cross-entropy of the labels under their frequencies in the training
split.

In T5's targets every fourth token is a sentinel, and sentinels have a fixed order. So there is a second baseline for
them: unigrams that know which sentinel is next, but not where.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from sesame import configs
from sesame.configs.json_lines import read_rows
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.data_pipeline.examples.spans import sentinel_ids
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.checkpoints.load import latest
from sesame.pretrain.config import RunConfig
from sesame.pretrain.objectives import OBJECTIVES

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(configs.__file__).parent
FIGURE = Path(__file__).with_suffix(".png")


class Curve(NamedTuple):
    """Validation losses of one small config."""

    name: str
    family: str
    objective: str
    steps: list[int]
    losses: list[float]
    """Nats per predicted token."""
    baseline: float
    """Unigram baseline."""
    sentinel_baseline: float
    """Unigram baseline that knows the order of the sentinels; ``baseline`` if there are none."""
    minutes: float
    """Of training, without validation."""


def corpora() -> dict[Path, Path]:
    """Output folder of a shipped corpus -> its file."""
    files = sorted((FOLDER / "corpus").glob("*.toml"))
    return {configs.load(file, CorpusConfig).output: file for file in files}


def small_configs() -> list[Path]:
    return sorted((FOLDER / "pretrain").glob("*_small.toml"))


def trained(file: Path) -> Curve:
    """Return the curve of a small config, which is trained if its run is not complete."""
    from sesame.pretrain.train import train

    run = configs.load(file, RunConfig)
    folder = Path(run.data.dataset)
    if not (folder / "manifest.json").exists():
        corpus = configs.load(corpora()[folder], CorpusConfig)
        prepare(corpus, corpus.output)
    checkpoint = latest(run.output)
    if checkpoint is None or checkpoint.name != f"step-{run.steps:08d}":
        train(run)
    rows = read_rows(run.output / "metrics.jsonl")
    objective = next(name for name in run.objectives if OBJECTIVES[name].predicts_tokens)
    points = [(row["step"], row["validation"][objective]) for row in rows if "validation" in row]
    steps, losses = map(list, zip(*points, strict=True))
    dataset = open_dataset(folder, verify=False)
    baseline = dataset.manifest.unigram_cross_entropy_validation
    assert baseline is not None
    minutes = sum(row.get("report_seconds", 0.0) for row in rows) / 60
    known_order = _sentinel_baseline(dataset) or baseline
    name = file.stem.removesuffix("_small")
    return Curve(name, run.model.family, objective, steps, losses, baseline, known_order, minutes)


def _sentinel_baseline(dataset: Dataset) -> float | None:
    """Return the unigram cross-entropy of the targets (nats per token) with all sentinels as one token."""
    if "target_tokens" not in dataset.manifest.columns:
        return None
    special = dataset.manifest.tokenizer.special
    sentinels = np.concatenate([sentinel_ids(special), [special["sep"]]])
    counts: dict[str, np.ndarray] = {}
    for name in ("train", "validation"):
        size = dataset.manifest.tokenizer.vocabulary_size
        targets = (block["target_tokens"] for block in dataset.split(name).blocks())
        block_counts = [np.bincount(rows.values, minlength=size) for rows in targets if isinstance(rows, Ragged)]
        counts[name] = np.sum(block_counts, axis=0)
    probabilities = (counts["train"] + 1) / (counts["train"] + 1).sum()
    probabilities[sentinels] = probabilities[sentinels].sum()
    return float(-(counts["validation"] * np.log(probabilities)).sum() / counts["validation"].sum())


def plot(curves: list[Curve]) -> None:
    """Plot all curves relative to their unigram baselines."""
    figure, panel = pyplot.subplots(figsize=(9, 5.5))
    for number, curve in enumerate(curves):
        below = [curve.baseline - loss for loss in curve.losses]
        marker = "osv^D*PXph<>"[number % 12]
        (line,) = panel.plot(curve.steps, below, marker=marker, markersize=4, label=f"{curve.name} ({curve.objective})")
        if curve.sentinel_baseline < curve.baseline:
            panel.axhline(curve.baseline - curve.sentinel_baseline, color=line.get_color(), linestyle=":", linewidth=1)
    panel.axhline(0.0, color="black", linestyle="--", linewidth=1)
    panel.annotate("unigram baseline", (0.01, 0.0), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    panel.set_xlabel("optimizer step")
    panel.set_ylabel("validation loss below the unigram baseline (nats per token)")
    panel.set_title("The small config of every run (dotted, t5 and switch: unigrams that know the sentinels)")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="small configs, such as gpt2; default: all")
    chosen: list[str] | None = parser.parse_args().only
    known = {file.stem.removesuffix("_small"): file for file in small_configs()}
    if unknown := [name for name in chosen or () if name not in known]:
        parser.error(f"--only {' '.join(unknown)}: no such small config; there are {', '.join(known)}")
    curves = [trained(file) for name, file in known.items() if not chosen or name in chosen]
    table = Table(
        "config", "family", "objective", "steps", "minutes", "loss", "unigram", "unigram, order known", "below"
    )
    for curve in curves:
        figures = (curve.losses[-1], curve.baseline, curve.sentinel_baseline, curve.baseline - curve.losses[-1])
        cells = [f"{value:.3f}" for value in figures]
        table.add_row(curve.name, curve.family, curve.objective, str(curve.steps[-1]), f"{curve.minutes:.1f}", *cells)
    Console(width=120).print(table)
    plot(curves)
    print(f"figure: {FIGURE}")


if __name__ == "__main__":
    main()
