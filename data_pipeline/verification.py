"""``sesame verify``: everything that a dataset promises, held against what lies on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import DatasetError
from data_pipeline import promises
from data_pipeline.manifest import Manifest
from data_pipeline.provenance import count_places
from data_pipeline.shards import Dataset, open_dataset
from data_pipeline.statistics import MEAN_SPAN_LENGTH, Counted, count, shares, summarise
from data_pipeline.tokenizer import Tokenizer

AGAIN = "prepare the dataset again"
DEVIATIONS = 6
"""Standard deviations that an observed share may be away from the recipe's: once in a billion by chance."""


def verify(path: str | Path) -> list[str]:
    """Check everything about a dataset that can be checked -> findings, one a line.

    Raises:
        DatasetError: a file differs from its checksum, or the rows from the recipe or from what the manifest says.
    """
    dataset = open_dataset(path, verify=True)
    manifest = dataset.manifest
    findings = [f"checksums: {len(dataset.files()) + 1} files match", _documents(dataset)]
    counted = {name: _counted(dataset, name) for name in manifest.splits}
    for name, record in manifest.splits.items():
        shown = f"{record.rows:,} rows, {record.tokens:,} tokens, {record.predictions:,} predictions"
        findings.append(f"{name}: {shown} in {len(record.shards)} shards, as in the manifest; every row is well formed")
    observed = summarise(counted["train"], counted["validation"], manifest.columns)._asdict()
    if wrong := [name for name, value in observed.items() if getattr(manifest, name) != value]:
        raise DatasetError(f"{path}: {', '.join(wrong)} in the manifest differ from the rows; {AGAIN}")
    findings.append(f"lengths: {len(manifest.lengths)} bins of the histogram are as in the manifest")
    return [*findings, *_masking(dataset, counted["train"]), *_pairs(dataset, counted["train"]), *_levels(manifest)]


def _documents(dataset: Dataset) -> str:
    """The counts of documents add up and agree with the files that hold them."""
    counts = dataset.manifest.documents
    read, parts = counts.get("read", 0), sum(dataset.manifest.fates.values())
    with dataset.documents_path.open("rb") as file:
        held_out = sum(1 for _ in file)
    trained = count_places(dataset)
    for what, stated, found in (
        ("documents read", read, parts),
        ("documents held out", counts.get("held out", 0), held_out),
        ("documents kept for training", counts.get("kept for training", 0), trained),
    ):
        if stated != found:
            raise DatasetError(
                f"{dataset.path}: {what} are {stated} in the manifest, but {found} by their sum or file; {AGAIN}"
            )
    return f"documents: {read:,} read, {trained:,} trained on, {held_out:,} held out, each with its place"


def _counted(dataset: Dataset, name: str) -> Counted:
    """The counts of a split, once every row of it has been looked at."""
    manifest, split, record = dataset.manifest, dataset.split(name), dataset.manifest.splits[name]
    rules = promises.Rules.of(manifest, Tokenizer.load(dataset.tokenizer_path), name)

    def checked() -> Iterator[Any]:
        seen = 0
        for columns in split.blocks():
            if broken := promises.broken(columns, rules):
                file, row = split.place(seen + broken[0])
                raise DatasetError(f"{file}: row {row} {broken[1]}; {AGAIN}")
            seen += len(columns["document"])
            yield columns

    counted = count(checked(), manifest.tokenizer.vocabulary_size, manifest.tokenizer.special)
    found = (counted.rows, int(split.lengths("tokens").sum()), counted.predictions)
    if found != (record.rows, record.tokens, record.predictions):
        raise DatasetError(
            f"{dataset.path}: rows, tokens and predictions of {name} are {found}, not as in the manifest; {AGAIN}"
        )
    return counted


def _masking(dataset: Dataset, train: Counted) -> list[str]:
    """The observed masking beside what the recipe asks for."""
    manifest = dataset.manifest
    if "target_tokens" in manifest.columns:
        found, asked = shares(train), manifest.recipe["corrupt"]
        return [
            f"spans: {found['hidden_of_text']:.2%} of the text tokens are hidden (recipe: "
            f"{asked['mask_probability']:.2%}), {found[MEAN_SPAN_LENGTH]:.2f} in a span (recipe: "
            f"{asked['mean_span_length']:.2f}); each row as asked, rounded to whole tokens and spans"
        ]
    if "mask_labels" not in manifest.columns:
        return []
    asked, found = manifest.recipe["corrupt"], shares(train)
    wanted = {
        "mask_of_predicted": asked["mask_share"],
        "random_of_predicted": asked["random_share"],
        "kept_of_predicted": 1 - asked["mask_share"] - asked["random_share"],
    }
    # A little more than chance, for random replacements that happen to be the original.
    tolerance = DEVIATIONS * (0.25 / max(1, train.predictions)) ** 0.5 + 0.002
    if off := [name for name, share in wanted.items() if abs(found[name] - share) > tolerance]:
        raise DatasetError(f"{dataset.path}: {', '.join(off)} is far from the recipe; {AGAIN}")
    fates = [f"{name.split('_')[0]} {found[name]:.2%} (recipe: {share:.2%})" for name, share in wanted.items()]
    lines = [_rate(dataset, train), f"of the predicted: {', '.join(fates)}"]
    if asked["kind"] in promises.WHOLE_WORDS:
        lines.append("words: each is hidden whole, but for the first of a row that is longer than its budget")
    return lines


def _rate(dataset: Dataset, train: Counted) -> str:
    """Rows keep to their budgets one by one; where every token is a unit, their sum must be what is expected."""
    asked = dataset.manifest.recipe["corrupt"]
    lengths = dataset.split("train").lengths("tokens") - promises.specials(dataset.manifest)
    expected = float(promises.expected(lengths, asked).sum())
    found = train.predictions
    exact = asked["kind"] not in promises.WHOLE_WORDS
    if exact and abs(found - expected) > DEVIATIONS * 0.5 * len(lengths) ** 0.5 + 1:
        raise DatasetError(
            f"{dataset.path}: {found:,} tokens are predicted, but {expected:,.0f} by the recipe; {AGAIN}"
        )
    share, most = found / max(1, train.text_tokens), expected / max(1, train.text_tokens)
    aim = f"recipe: {asked['mask_probability']:.2%}, and at these lengths {'' if exact else 'at most '}{most:.2%}"
    return f"masking: {share:.2%} of the text tokens are predicted ({aim})"


def _pairs(dataset: Dataset, train: Counted) -> list[str]:
    """Half of the pairs are swapped; of BERT's at least half are strangers, for a lone sentence has no successor."""
    manifest = dataset.manifest
    if manifest.pair_share is None:
        return []
    kind, share = manifest.recipe["segment"]["kind"], train.ones / max(1, train.rows)
    tolerance = DEVIATIONS * (0.25 / max(1, train.rows)) ** 0.5
    strangers = kind == "next_sentence"
    partners = manifest.documents["kept for training"] > 1 or not strangers
    if partners and (share < 0.5 - tolerance or (not strangers and share > 0.5 + tolerance)):
        raise DatasetError(f"{dataset.path}: {share:.2%} of the pairs have label 1, not about half; {AGAIN}")
    told = ", each from another document, as its label says" if strangers else ""
    return [f"pairs: {share:.2%} have label 1{told}"]


def _levels(manifest: Manifest) -> list[str]:
    level = manifest.unigram_cross_entropy_validation
    return [] if level is None else [f"a model that only counts has a validation loss of {level:.3f} nat"]
