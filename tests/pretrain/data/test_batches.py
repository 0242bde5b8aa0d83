"""Packing and the global order of the data."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.dataset_checks import check_columns, check_lengths
from sesame.pretrain.data.packing import assemble, layout, pack

READS = ("tokens", "positions", "segments", "mask_positions", "mask_labels", "pair_labels")


def batches(dataset: Path, data_rank: DataRank, micro: int = 4) -> Batches:
    config = DataConfig(dataset=str(dataset), global_batch=16, micro_batch=micro)
    return Batches(open_dataset(dataset, verify=False), config, READS, 7, data_rank)


def sequences(batch) -> list[tuple[int, ...]]:
    bounds = batch.layout.cu_seqlens_B1.tolist()
    return [tuple(batch["tokens"][start:end].tolist()) for start, end in pairwise(bounds)]


def test_packed_batch_is_the_rows_end_to_end(dataset: Path) -> None:
    split = open_dataset(dataset, verify=False).split("train")
    source = batches(dataset, DataRank(0, 1), micro=16)
    (batch,) = source.step(0)
    rows = source._rows(0, 16)
    rows = rows[np.argsort(split.lengths("tokens")[rows], kind="stable")]
    columns = split.take(rows)
    tokens, masks, first_lengths = (columns[name] for name in ("tokens", "mask_positions", "first_segment_length"))
    assert isinstance(tokens, Ragged) and isinstance(masks, Ragged) and isinstance(first_lengths, np.ndarray)
    token = start = 0
    for row in range(16):
        ids = tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]]
        positions = masks.values[masks.offsets[row] : masks.offsets[row + 1]]
        assert batch["tokens"][token : token + len(ids)].tolist() == ids.tolist()
        assert batch["positions"][token : token + len(ids)].tolist() == list(range(len(ids)))
        first = int(first_lengths[row])
        assert batch["segments"][token : token + len(ids)].tolist() == [0] * first + [1] * (len(ids) - first)
        assert batch["mask_positions"][start : start + len(positions)].tolist() == [token + int(p) for p in positions]
        token, start = token + len(ids), start + len(positions)
    assert token == batch.tokens and start == len(batch["mask_labels"])


@pytest.mark.parametrize(("processes", "micro"), [(1, 4), (2, 4), (4, 4), (2, 8), (4, 2)])
def test_every_layout_sees_the_same_global_batches(dataset: Path, processes: int, micro: int) -> None:
    (whole,) = batches(dataset, DataRank(0, 1), micro=16).step(3)
    parts = [part for rank in range(processes) for part in batches(dataset, DataRank(rank, processes), micro).step(3)]
    assert sorted(sequence for part in parts for sequence in sequences(part)) == sorted(sequences(whole))
    mean = sum(len(part["mask_labels"]) / part.denominators["mask_labels"] for part in parts) / len(parts)
    assert mean == pytest.approx(1.0), "the mean of sums over denominators must be the mean over the global batch"


def test_an_epoch_has_every_row_once_and_the_next_another_order(dataset: Path) -> None:
    source = batches(dataset, DataRank(0, 1))
    rows = source.train.rows
    first, second = source._rows(0, rows), source._rows(rows, 2 * rows)
    assert sorted(first) == sorted(second) == list(range(rows))
    assert first.tolist() != second.tolist()
    assert source._rows(rows - 2, rows + 2).tolist() == [*first[-2:], *second[:2]]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_validation_row_has_the_same_weight(dataset: Path, processes: int) -> None:
    parts = [list(batches(dataset, DataRank(rank, processes)).validation_batches(30)) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1, "all processes must run the same number of forward passes"
    shares = [len(batch["mask_labels"]) / batch.denominators["mask_labels"] for part in parts for batch in part]
    assert sum(shares) == pytest.approx(1.0)


def test_groups_cover_the_batch_and_join_similar_lengths() -> None:
    lengths = np.array([3, 4, 4, 9, 9, 9, 9, 9, 40])
    groups = layout(lengths).groups
    assert [group.lengths for group in groups] == [(3, 4, 4), (9, 9, 9, 9, 9), (40,)]
    assert [(group.start, group.end) for group in groups] == [(0, 11), (11, 56), (56, 96)]


def test_pack_keeps_the_order_and_adds_columns() -> None:
    batch = pack([np.array([2, 5, 3]), np.array([2, 6, 7, 3])], [3, 2], labels=np.array([1.5, 0.5]))
    assert batch["tokens"].tolist() == [2, 5, 3, 2, 6, 7, 3]
    assert batch["segments"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert batch.layout.starts_B.tolist() == [0, 3]
    assert torch.equal(batch["labels"], torch.tensor([1.5, 0.5], dtype=torch.float64))


def test_a_batch_that_does_not_divide_names_the_numbers(dataset: Path) -> None:
    with pytest.raises(ConfigError, match=r"16 does not divide by data.micro_batch 4 x 3 data-parallel processes = 12"):
        batches(dataset, DataRank(0, 3))
    with pytest.raises(ConfigError, match=r"16 does not divide by data.micro_batch 5 x 3 data-parallel processes = 15"):
        batches(dataset, DataRank(0, 3), micro=0)


@pytest.mark.parametrize("processes", [1, 2, 4, 16])
def test_without_a_micro_batch_each_process_has_its_whole_share(dataset: Path, processes: int) -> None:
    source = batches(dataset, DataRank(0, processes), micro=0)
    (batch,) = source.step(0)
    assert batch.layout.sequences == 16 // processes


def test_a_missing_column_is_named(dataset: Path) -> None:
    opened = open_dataset(dataset, verify=False)
    opened.manifest = opened.manifest.model_copy(update={"columns": ("tokens", "mask_positions", "mask_labels")})
    with pytest.raises(DatasetError, match="no column first_segment_length, pair_labels"):
        check_columns(opened, READS)


def ragged(*rows: list[int]) -> Ragged:
    return Ragged(np.concatenate(rows).astype(np.int64), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def test_next_labels_are_the_next_tokens_of_the_same_row() -> None:
    columns = {"tokens": ragged([2, 7, 8, 3], [2, 3], [2, 9, 3])}
    batch = assemble(columns, ("next_positions", "next_labels"), {})
    assert batch["next_positions"].tolist() == [0, 1, 2, 4, 6, 7]
    assert batch["next_labels"].tolist() == [7, 8, 3, 3, 9, 3]


def test_decoder_tokens_are_the_targets_shifted_right() -> None:
    columns = {"tokens": ragged([2, 7, 3], [2, 8, 9, 3]), "target_tokens": ragged([11, 5, 3], [11, 6, 4, 12, 3])}
    batch = assemble(columns, ("decoder_tokens", "target_labels"), {}, start_token=0)
    assert batch["target_labels"].tolist() == [11, 5, 3, 11, 6, 4, 12, 3]
    assert batch["decoder_tokens"].tolist() == [0, 11, 5, 0, 11, 6, 4, 12]
    assert batch.targets is not None
    assert batch.targets.cu_seqlens_B1.tolist() == [0, 3, 8]
    assert [group.lengths for group in batch.targets.groups] == [(3, 5)], "targets are grouped as their rows are"


def test_denominators_count_the_entries_of_the_global_batch(datasets: Callable[[str], Path]) -> None:
    dataset = datasets("text")
    config = DataConfig(dataset=str(dataset), global_batch=16, micro_batch=4)
    reads = ("tokens", "next_positions", "next_labels")
    ranks = [Batches(open_dataset(dataset, verify=False), config, reads, 7, DataRank(rank, 2)) for rank in (0, 1)]
    parts = [part for source in ranks for part in source.step(3)]
    for column, entries in (
        ("next_labels", lambda part: len(part["next_labels"])),
        ("tokens", lambda part: part.tokens),
    ):
        mean = sum(entries(part) / part.denominators[column] for part in parts) / len(parts)
        assert mean == pytest.approx(1.0), column


def test_next_token_prediction_refuses_masked_text(dataset: Path) -> None:
    opened = open_dataset(dataset, verify=False)
    with pytest.raises(DatasetError, match=r"masks tokens of its text.* corrupt\.kind = 'nothing'"):
        check_columns(opened, ("tokens", "next_positions", "next_labels"))


def test_rows_longer_than_the_model_accepts_are_refused(dataset: Path) -> None:
    opened = open_dataset(dataset, verify=False)
    check_lengths(opened, 48)
    check_lengths(opened, None)
    with pytest.raises(DatasetError, match=r"rows of up to 48 tokens, but model\.positions is 47"):
        check_lengths(opened, 47)
