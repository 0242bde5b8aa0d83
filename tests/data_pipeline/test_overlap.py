"""Documents that hold text of an evaluation set are found, whatever the case and the punctuation."""

import json
from collections import Counter
from pathlib import Path

import pytest

from configs import parse
from configs.errors import CorpusError
from data_pipeline.clean import CleanConfig, clean
from data_pipeline.document import Document
from data_pipeline.overlap import Overlap

LONG = "The quick brown fox jumps over the lazy dog while seven old wizards watch it from the hill"
SHORT = "They drank the pub entirely dry."
CHINESE = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u4e86\u5417"


@pytest.fixture
def overlap(tmp_path: Path) -> Overlap:
    (tmp_path / "train.tsv").write_text(f"id\tlabel\tsentence\n1\t0\t{SHORT}\n")
    (tmp_path / "dev.jsonl").write_text(
        json.dumps({"passage": {"text": LONG}, "question": ["too short to count"]}) + "\n"
    )
    (tmp_path / "test.json").write_text(json.dumps([{"sentence": CHINESE}]), encoding="utf-8")
    found = Overlap.of((str(tmp_path),))
    found.save(tmp_path / "overlap.npz")
    return Overlap.load(tmp_path / "overlap.npz")


@pytest.mark.parametrize(
    ("text", "meets"),
    [
        (f"Before. {LONG} After.", True),
        ("A brown fox jumps over the lazy dog, while SEVEN old wizards watch it FROM the town.", True),
        ("A brown fox jumps over the lazy dog while seven cold wizards watch it from the town.", False),
        (f"One said: {SHORT.upper()}", True),
        ("They drank the pub dry.", False),
        ("too short to count", False),
        ("\u90a3\u4e48\uff0c" + CHINESE + "\u3002", True),
        ("\u90a3\u4e48\uff0c" + CHINESE[:10] + "\u3002", False),
        ("", False),
    ],
)
def test_shared_sequences_are_found(overlap: Overlap, text: str, meets: bool) -> None:
    assert overlap.meets(text) is meets


def test_such_documents_are_dropped_for_that_reason(overlap: Overlap) -> None:
    rules = parse({"minimum_characters": 0}, CleanConfig, "a.toml")
    dropped: Counter[str] = Counter()
    documents = [Document(f"A novel. {LONG}", "a"), Document("Another novel without it.", "b")]
    assert [document.source for document in clean(documents, rules, dropped, overlap)] == ["b"]
    assert dropped == {"holds evaluation text": 1}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text("{")
    with pytest.raises(CorpusError, match=r"dev.jsonl: cannot be read .*clean.evaluation_paths"):
        Overlap.of((str(tmp_path / "dev.jsonl"),))
