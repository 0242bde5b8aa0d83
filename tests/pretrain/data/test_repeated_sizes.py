"""Sizes that repeat from step to step: rounded, few, and without any effect on losses, gradients and counts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import layout
from sesame.pretrain.data.repeated_sizes import padded_length, with_repeated_sizes
from tests.pretrain.data.test_token_budget import assert_same, made
from tests.pretrain.family_runs import FAMILY_RUNS

FamilySettings = Callable[..., dict[str, Any]]
ATTENDING = [name for name in FAMILY_RUNS if name not in ("elmo", "switch")]


@pytest.mark.parametrize("name", ATTENDING)
def test_rounded_sizes_change_no_loss_and_no_gradient(name: str, family_settings: FamilySettings) -> None:
    learner, batches = made(family_settings, name, micro_batch=0)
    for number in (0, 5):
        plain = list(batches.step(number))
        rounded = [with_repeated_sizes(batch) for batch in plain]
        assert_same(learner, plain, rounded)
        for batch in rounded:
            assert len(batch["tokens"]) % 64 == 0
            assert all(
                len(batch[label]) % 32 == 0 for label in ("mask_labels", "next_labels") if label in batch.columns
            )
        assert any(len(one["tokens"]) != len(other["tokens"]) for one, other in zip(plain, rounded, strict=True))


def batch_of(lengths: list[int]) -> Batch:
    return Batch(layout(np.array(lengths)), {"tokens": torch.arange(sum(lengths))})


def test_sequences_are_padded_to_few_lengths() -> None:
    random = np.random.default_rng(1)
    widths = set()
    for _ in range(50):
        lengths = np.sort(random.integers(1, 513, 32)).tolist()
        rounded = with_repeated_sizes(batch_of(lengths)).layout
        assert [length for group in rounded.groups for length in group.lengths] == lengths
        assert [group.start for group in rounded.groups[1:]] == [group.end for group in rounded.groups[:-1]]
        for group in rounded.groups:
            assert max(group.lengths) <= group.width < min(group.lengths) + max(16, group.width / 4)
            widths.add(group.width)
        assert rounded.longest >= max(group.width for group in rounded.groups)
    assert len(widths) <= 20


def test_rows_that_are_filled_up_are_not_padded() -> None:
    rounded = with_repeated_sizes(batch_of([20, 90, 100, 100, 100, 100])).layout
    assert [group.width for group in rounded.groups] == [32, 96, 100]


@pytest.mark.parametrize(
    ("length", "padded"), [(1, 16), (16, 16), (17, 32), (65, 80), (128, 128), (129, 160), (500, 512)]
)
def test_padded_lengths(length: int, padded: int) -> None:
    assert padded_length(length) == padded
