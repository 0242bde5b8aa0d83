"""The table that ``sesame prepare`` prints at its end."""

from rich.table import Table

from sesame.configs.durations import duration
from sesame.data_pipeline.dataset.manifest import Manifest
from sesame.data_pipeline.dataset.statistics import MEAN_SPAN_LENGTH


def summary(manifest: Manifest, seconds: float) -> Table:
    """Return a table of the manifest's counts and shares.

    Args:
        seconds: how long ``sesame prepare`` took.
    """
    table = Table(title=f"prepared in {duration(seconds)}", show_header=False, title_justify="left")
    for reason, count in manifest.documents.items():
        table.add_row(reason if reason.startswith("repeated") else f"documents {reason}", f"{count:,}")
    for (number, kind, weight), (documents, characters) in by_source(manifest).items():
        table.add_row(
            f"source {number}: {kind}, weight {weight:g}", f"{documents:,} documents, {characters:,} characters"
        )
    for name, split in manifest.splits.items():
        counts = f"{split.rows:,} rows, {split.tokens:,} tokens, {split.predictions:,} predictions"
        table.add_row(name, f"{counts} in {len(split.shards)} shards")
    for name, share in manifest.masking.items():
        value = f"{share:.1%}" if name != MEAN_SPAN_LENGTH else f"{share:.2f} tokens"
        table.add_row(name.replace("_", " "), value)
    if manifest.pair_share is not None:
        table.add_row("pairs with label 1", f"{manifest.pair_share:.1%}")
    if manifest.unigram_cross_entropy_validation is not None:
        table.add_row("unigram baseline (validation)", f"{manifest.unigram_cross_entropy_validation:.3f} nats")
    return table


def by_source(manifest: Manifest) -> dict[tuple[int, str, float], tuple[int, int]]:
    """Return (number, kind, weight) of each source -> (documents, characters) kept of it."""
    kept: dict[tuple[int, str, float], tuple[int, int]] = {}
    for row in manifest.sources:
        key = (row["source"], row["kind"], row["weight"])
        documents, characters = kept.get(key, (0, 0))
        kept[key] = (documents + row["documents_kept"], characters + row["characters_kept"])
    return kept
