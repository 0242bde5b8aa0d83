"""Recorded results are recalled unchanged; damaged ones are ignored."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.cleaning.parts import Part, Reading
from sesame.data_pipeline.dataset.build import GroupRows
from sesame.data_pipeline.dataset.manifest import Shard
from sesame.data_pipeline.dataset.statistics import RowCounts
from sesame.data_pipeline.ledger import Ledger

BANDS = np.zeros((1, 0), np.uint64)
PART = Part(
    Path("/a/b.arrow"),
    "unit",
    np.array([True]),
    np.array([[1, 2**63]], np.uint64),
    np.array([3]),
    np.array([2**63], np.uint64),
    np.array([3]),
    np.array([0, 1]),
    BANDS,
)
CLASSES = (Part, Reading, GroupRows, RowCounts, Shard)
RESULTS = {
    "reading": Reading([PART, PART], 7, Counter(short=2), Counter(repaired=1)),
    "rows": GroupRows("rows.arrow", 3, ("tokens", "document")),
    "shard": (
        Shard(file="a", rows=1, bytes=2, sha256="x"),
        5,
        RowCounts(np.arange(3), 1, np.arange(4), np.arange(4), 1, 2, 3, 4, 5),
    ),
    "bytes": b"model",
    "nothing read": Reading([], 0, Counter(), Counter()),
}


def same(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_recalled_unchanged(name: str, tmp_path: Path) -> None:
    Ledger(tmp_path, CLASSES).record("a stage", RESULTS[name], 3)
    assert Ledger(tmp_path, CLASSES).recall("a stage", 2) is None
    assert same(Ledger(tmp_path, CLASSES).recall("a stage", 3), RESULTS[name])


@pytest.mark.parametrize("file", ["a-stage-000000.json", "a-stage-000000.npz"])
@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense"])
def test_a_damaged_record_is_ignored(file: str, damage: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, CLASSES)
    ledger.record("a stage", RESULTS["reading"])
    path = tmp_path / file
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b'{"os.system": "true"}')
    assert ledger.recall("a stage") is None
