"""A manifest that differs from its rows is detected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.manifest import read_manifest
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.verification.changed_datasets import resign

MANIFESTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lengths": (lambda lengths: {**lengths, "0-15": lengths.get("0-15", 0) + 1}, "lengths in the manifest differ"),
    "masking": (lambda masking: {**masking, "predicted_of_text": 0.3}, "masking in the manifest differ"),
    "pair_share": (lambda share: share / 2, "pair_share in the manifest differ"),
    "unigram_entropy": (lambda level: level + 0.1, "unigram_entropy in the manifest differ"),
    "unigram_cross_entropy_validation": (lambda level: level - 0.1, "unigram_cross_entropy_validation in the manif"),
}
COUNTS = ("read", "held out", "kept for training")


@pytest.mark.parametrize("key", MANIFESTS)
def test_a_manifest_with_wrong_statistics_is_detected(copy: Path, key: str) -> None:
    change, sentence = MANIFESTS[key]
    resign(copy, **{key: change(getattr(read_manifest(copy), key))})
    with pytest.raises(DatasetError, match=sentence):
        verify(copy)


@pytest.mark.parametrize("outcome", COUNTS)
def test_wrong_counts_of_documents_are_detected(copy: Path, outcome: str) -> None:
    documents = read_manifest(copy).documents
    added = {outcome: 1} if outcome == "read" else {outcome: 1, "read": 1}
    resign(copy, documents={key: count + added.get(key, 0) for key, count in documents.items()})
    with pytest.raises(DatasetError, match=rf"documents {outcome} are {documents[outcome] + 1} in the manifest, but"):
        verify(copy)


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        ("rows", r"splits\.train has \d+ rows, but its shards have another number"),
        ("tokens", "rows, tokens and predictions of train are"),
        ("predictions", "rows, tokens and predictions of train are"),
    ],
)
def test_wrong_counts_of_a_split_are_detected(copy: Path, count: str, sentence: str) -> None:
    splits = read_manifest(copy).splits
    record = splits["train"].model_copy(update={count: getattr(splits["train"], count) - 1})
    resign(copy, splits={**splits, "train": record})
    with pytest.raises(DatasetError, match=sentence):
        verify(copy)


RECIPES: dict[str, tuple[str, str, Any, str]] = {
    "mask share": ("corrupt", "mask_share", 0.5, "mask_of_predicted, kept_of_predicted is far from the recipe"),
    "random share": ("corrupt", "random_share", 0.2, "random_of_predicted, kept_of_predicted is far from the recipe"),
    "mask rate": ("corrupt", "mask_probability", 0.1, "has more predictions than its recipe allows"),
    "most predictions": ("corrupt", "maximum_predictions", 5, "has more predictions than its recipe allows"),
    "words": ("corrupt", "kind", "masked_words", "masks a part of a word"),
    "sequence length": ("segment", "sequence_length", 40, "is not between 3 and 40 tokens long"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_rows_that_differ_from_the_recipe_are_detected(copy: Path, case: str) -> None:
    section, key, value, sentence = RECIPES[case]
    recipe = read_manifest(copy).recipe
    resign(copy, recipe={**recipe, section: {**recipe[section], key: value}})
    with pytest.raises(DatasetError, match=sentence):
        verify(copy)


def test_counts_of_changes_are_not_counts_of_documents(copy: Path) -> None:
    documents = read_manifest(copy).documents
    resign(copy, documents={**documents, "repaired": 3, "repeated pieces left out": 1000})
    assert any("each with its position" in line for line in verify(copy))
