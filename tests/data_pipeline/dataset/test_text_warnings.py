"""Warnings of ``sesame prepare``."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sesame.data_pipeline.cleaning.selection import Outcome
from sesame.data_pipeline.dataset.manifest import Manifest
from sesame.data_pipeline.dataset.text_warnings import (
    DROP,
    LONG,
    READ,
    TOKENS,
    UNKNOWN,
    UNUSED,
    count_characters,
    warnings,
)
from sesame.data_pipeline.examples.segment import SegmentConfig, Sentences, segment, tokens_in_no_row
from sesame.data_pipeline.ragged import boundaries

GOOD = {READ: 1000, f"{DROP}short": 20, TOKENS: 500, LONG: 100, UNUSED: 4, UNKNOWN: 2}


def manifest(share: float | None = None, **text: int) -> Manifest:
    return cast(Manifest, SimpleNamespace(text=text or GOOD, pair_share=share))


@pytest.mark.parametrize("share", [None, 0.5, 0.62])
def test_no_warnings_for_a_good_dataset(share: float | None) -> None:
    assert warnings(manifest(share)) == []
    assert warnings(cast(Manifest, SimpleNamespace(text={}, pair_share=None))) == [], "an older manifest"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {f"{DROP}not prose": 150},
            "15.0% of the text is dropped as 'not prose'; clean.minimum_letter_share decides that",
        ),
        ({f"{DROP}language: de": 500}, "50.0% of the text is dropped as 'language: de'; clean.languages decides that"),
        ({LONG: 400}, "80.0% of the tokens are in sentences longer than a row"),
        ({UNUSED: 50}, "10.0% of the tokens are in no row"),
        ({UNKNOWN: 100}, "20.0% of the tokens are unknown to the tokenizer"),
    ],
)
def test_each_loss_has_one_warning_with_its_reason(change: dict[str, int], message: str) -> None:
    (found,) = warnings(manifest(**(GOOD | change)))
    assert found.startswith(message)


def test_no_warning_for_intended_drops() -> None:
    assert warnings(manifest(**(GOOD | {f"{DROP}beyond the limit": 900}))) == []


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8, 1.0])
def test_warning_for_imbalanced_labels(share: float) -> None:
    (found,) = warnings(manifest(share))
    assert found.startswith(f"{share:.1%} of the pairs have label 1")


def test_tokens_in_no_row() -> None:
    part = Sentences(np.arange(30), np.array([0, 10, 20, 30]), np.array([0, 2, 3]))
    spans = np.array([[0, 5, 22, 30, 1, 0], [8, 10, 10, 18, 0, 0], [20, 21, 0, 0, 0, 1]])
    assert tokens_in_no_row(part, spans, np.array([0, 1])) == 3 + 2 + 9
    assert tokens_in_no_row(part, spans[:2], np.array([0])) == 3 + 2, "a partner's tokens are not its own"


@pytest.mark.parametrize("kind", ["next_sentence", "full_sentences", "contiguous", "sentence_order"])
def test_every_token_of_sentences_that_fit_is_used(kind: str) -> None:
    rng = np.random.default_rng(0)
    per_document = rng.integers(2, 20, 50)
    lengths = rng.integers(1, 29, per_document.sum())
    part = Sentences(np.arange(lengths.sum()), boundaries(lengths), boundaries(per_document))
    config = SegmentConfig.model_validate({"kind": kind, "sequence_length": 64})
    spans = segment(part, config, np.random.Generator(np.random.PCG64DXSM(0)))
    assert tokens_in_no_row(part, spans, np.arange(50)) == 0


def test_characters_are_counted_by_outcome() -> None:
    parts: Any = [SimpleNamespace(characters=np.array([10, 20, 30]))]
    readings: Any = [
        SimpleNamespace(parts=parts, lost=Counter({"short": 5})),
        SimpleNamespace(parts=[], lost=None),
    ]
    choices: Any = [SimpleNamespace(outcomes=np.array([Outcome.DUPLICATE, Outcome.TRAIN, Outcome.VALIDATION], np.int8))]
    assert count_characters(readings, choices) == {READ: 65, f"{DROP}duplicate": 10, f"{DROP}short": 5}
