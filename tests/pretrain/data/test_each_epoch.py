"""Tokens masked again in each epoch: other masks each time, the same in every layout."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.verification.verify import verify
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.prefetch import Prefetcher

READS = ("tokens", "positions", "segments", "mask_positions", "mask_labels", "pair_labels")


@pytest.fixture(scope="module")
def unmasked(make_unmasked: Callable[[str, int], Path]) -> Path:
    """The corpus without masks, which are drawn in each epoch."""
    return make_unmasked("masked_words", 48)


def batches(dataset: Path, data_rank: DataRank, micro: int = 2) -> Batches:
    config = DataConfig(dataset=str(dataset), global_batch=16, micro_batch=micro)
    return Batches(open_dataset(dataset, verify=False), config, READS, 7, data_rank)


def sequences(made: list[Batch]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return (tokens, labels) of every sequence, sorted."""
    result = []
    for batch in made:
        positions, labels = batch["mask_positions"].numpy(), batch["mask_labels"].numpy()
        for start, end in pairwise(batch.layout.cu_seqlens_B1.tolist()):
            inside = (positions >= start) & (positions < end)
            result.append((tuple(batch["tokens"][start:end].tolist()), tuple(labels[inside].tolist())))
    return sorted(result)


def restored(made: list[Batch]) -> list[tuple[int, ...]]:
    """Return the sequences with their original tokens, sorted."""
    result = []
    for batch in made:
        tokens = batch["tokens"].clone()
        tokens[batch["mask_positions"]] = batch["mask_labels"]
        result += [tuple(tokens[start:end].tolist()) for start, end in pairwise(batch.layout.cu_seqlens_B1.tolist())]
    return sorted(result)


def test_the_shards_have_the_original_text(unmasked: Path) -> None:
    opened = open_dataset(unmasked, verify=True)
    assert "mask_labels" not in opened.manifest.columns
    tokens = opened.split("train").take(np.arange(50))["tokens"]
    assert isinstance(tokens, Ragged)
    assert opened.manifest.tokenizer.special["mask"] not in tokens.values
    assert any("every row is well formed" in line for line in verify(unmasked))
    baseline = opened.manifest.unigram_cross_entropy_validation
    assert baseline is not None and 3 < baseline < np.log(320) + 1


@pytest.mark.parametrize(("world", "micro"), [(1, 2), (2, 2), (4, 4), (8, 2)])
def test_masks_do_not_depend_on_the_layout(unmasked: Path, world: int, micro: int) -> None:
    whole = list(batches(unmasked, DataRank(0, 1), 16).step(3))
    parts = [made for rank in range(world) for made in batches(unmasked, DataRank(rank, world), micro).step(3)]
    assert sequences(parts) == sequences(whole)
    mean = sum(len(part["mask_labels"]) / part.denominators["mask_labels"] for part in parts) / len(parts)
    assert mean == pytest.approx(1.0)


def test_a_loader_process_draws_the_same_masks(unmasked: Path) -> None:
    prefetcher = Prefetcher(batches(unmasked, DataRank(0, 1)), 1, 4)
    result = sequences(list(prefetcher.step(3)))
    prefetcher.close()
    assert result == sequences(list(batches(unmasked, DataRank(0, 1)).step(3)))


def test_every_epoch_masks_other_tokens_of_the_same_rows_but_not_of_validation(unmasked: Path) -> None:
    source = batches(unmasked, DataRank(0, 1), 16)
    # 64 rows in batches of 16: two epochs of four steps.
    source.train.rows = 64
    first, second = ([made for number in range(4) for made in source.step(start + number)] for start in (0, 4))
    assert restored(first) == restored(second), "the same text"
    same = set(sequences(first)) & set(sequences(second))
    assert len(same) < 8, "other masks"
    assert sequences(list(source.validation_batches(30))) == sequences(list(source.validation_batches(30)))
    predicted = sum(len(made["mask_labels"]) for made in first)
    text = sum(made.tokens - 3 * made.layout.sequences for made in first)
    assert predicted / text == pytest.approx(0.2, abs=0.03)
