"""Train the small twin of every family on the embedded corpus, and draw all their curves in one picture.

    .venv/bin/python benchmarks/families.py

Corpora are prepared where they are missing, runs that are complete are taken as they are; the picture is
``benchmarks/families.png``. Every curve shows how far the validation loss is below what counting gives: the
cross-entropy of the labels under their frequencies in the training split.

In T5's targets every fourth token is a sentinel, whose order is fixed. So a second level is told for them: counting
that knows which sentinel is next, and guesses when it comes and the text between.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

import configs
from data_pipeline.dataset.shards import Dataset, open_dataset
from data_pipeline.examples.spans import sentinel_ids
from data_pipeline.prepare import CorpusConfig, prepare
from data_pipeline.ragged import Ragged
from pretrain.checkpoints.load import latest
from pretrain.config import RunConfig
from pretrain.objectives import OBJECTIVES

matplotlib.use("Agg")
from matplotlib import pyplot

FOLDER = Path(configs.__file__).parent
PICTURE = Path(__file__).with_suffix(".png")


class Curve(NamedTuple):
    """One twin's validation losses."""

    name: str
    family: str
    objective: str
    steps: list[int]
    losses: list[float]
    """Nats per predicted token."""
    level: float
    """What counting gives."""
    strict_level: float
    """What counting gives that knows the order of the sentinels; ``level`` where there are none."""
    minutes: float


def corpora() -> dict[Path, Path]:
    """Folder that a shipped corpus is prepared in -> its file."""
    files = sorted((FOLDER / "corpus").glob("*.toml"))
    return {configs.load(file, CorpusConfig).output: file for file in files}


def twins() -> list[Path]:
    return sorted((FOLDER / "pretrain").glob("*_small.toml"))


def trained(file: Path) -> Curve:
    """The curve of a twin, which is trained if it has not been."""
    from pretrain.train import train

    run = configs.load(file, RunConfig)
    folder = Path(run.data.dataset)
    if not (folder / "manifest.json").exists():
        corpus = configs.load(corpora()[folder], CorpusConfig)
        prepare(corpus, corpus.output)
    found = latest(run.output)
    if found is None or found.name != f"step-{run.steps:08d}":
        train(run)
    rows = [json.loads(line) for line in (run.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    objective = next(name for name in run.objectives if OBJECTIVES[name].predicts_tokens)
    points = [(row["step"], row["validation"][objective]) for row in rows if "validation" in row]
    steps, losses = map(list, zip(*points, strict=True))
    dataset = open_dataset(folder, verify=False)
    level = dataset.manifest.unigram_cross_entropy_validation
    assert level is not None
    minutes = max(row.get("seconds", 0.0) for row in rows) / 60
    strict = _without_marks(dataset) or level
    return Curve(file.stem.removesuffix("_small"), run.model.family, objective, steps, losses, level, strict, minutes)


def _without_marks(dataset: Dataset) -> float | None:
    """Cross-entropy of the targets (nats per token) when it is only guessed whether one is a mark, not which."""
    if "target_tokens" not in dataset.manifest.columns:
        return None
    special = dataset.manifest.tokenizer.special
    marks = np.concatenate([sentinel_ids(special), [special["sep"]]])
    counts: dict[str, np.ndarray] = {}
    for name in ("train", "validation"):
        size = dataset.manifest.tokenizer.vocabulary_size
        targets = (block["target_tokens"] for block in dataset.split(name).blocks())
        found = [np.bincount(rows.values, minlength=size) for rows in targets if isinstance(rows, Ragged)]
        counts[name] = np.sum(found, axis=0)
    probabilities = (counts["train"] + 1) / (counts["train"] + 1).sum()
    probabilities[marks] = probabilities[marks].sum()
    return float(-(counts["validation"] * np.log(probabilities)).sum() / counts["validation"].sum())


def draw(curves: list[Curve]) -> None:
    """All curves in one picture, zero being what counting gives."""
    figure, panel = pyplot.subplots(figsize=(9, 5.5))
    for number, curve in enumerate(curves):
        below = [curve.level - loss for loss in curve.losses]
        marker = "osv^D*PXph<>"[number % 12]
        (line,) = panel.plot(curve.steps, below, marker=marker, markersize=4, label=f"{curve.name} ({curve.objective})")
        if curve.strict_level < curve.level:
            panel.axhline(curve.level - curve.strict_level, color=line.get_color(), linestyle=":", linewidth=1)
    panel.axhline(0.0, color="black", linestyle="--", linewidth=1)
    panel.annotate("a model that only counts", (0.01, 0.0), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    panel.set_xlabel("optimizer step")
    panel.set_ylabel("validation loss below counting (nats per token)")
    panel.set_title("The small twin of every run (dotted, t5 and switch: counting that knows the sentinels)")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, loc="upper right")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these twins, such as gpt2; without it all")
    chosen: list[str] | None = parser.parse_args().only
    known = {file.stem.removesuffix("_small"): file for file in twins()}
    if unknown := [name for name in chosen or () if name not in known]:
        parser.error(f"--only {' '.join(unknown)}: no such twin; there are {', '.join(known)}")
    curves = [trained(file) for name, file in known.items() if not chosen or name in chosen]
    table = Table(
        "twin", "family", "objective", "steps", "minutes", "loss", "counting", "counting, order known", "below"
    )
    for curve in curves:
        figures = (curve.losses[-1], curve.level, curve.strict_level, curve.level - curve.losses[-1])
        told = [f"{value:.3f}" for value in figures]
        table.add_row(curve.name, curve.family, curve.objective, str(curve.steps[-1]), f"{curve.minutes:.1f}", *told)
    Console(width=120).print(table)
    draw(curves)
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    main()
