"""Documents with text of an evaluation set are found, in any case and with any punctuation."""

import gzip
import json
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from sesame.configs import parse
from sesame.configs.errors import CorpusError
from sesame.data_pipeline.cleaning.clean import clean, normal_text
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.overlap import Overlap
from sesame.data_pipeline.sources.document import Document

LONG = "The quick brown fox jumps over the lazy dog while seven old wizards watch it from the hill"
SHORT = "They drank the pub entirely dry."
CHINESE = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u4e86\u5417"

COUNTRY = "\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd"
PASSAGE = "".join(chr(0x4E00 + 7 * number) for number in range(40))


@pytest.fixture
def overlap(tmp_path: Path) -> Overlap:
    (tmp_path / "train.tsv").write_text(f"id\tlabel\tsentence\n1\t0\t{SHORT}\n")
    (tmp_path / "dev.jsonl").write_text(
        json.dumps({"passage": {"text": LONG}, "question": ["too short to count"]}) + "\n"
    )
    chinese = [{"sentence": CHINESE, "choice": COUNTRY, "passage": PASSAGE}]
    (tmp_path / "test.json").write_text(json.dumps(chinese), encoding="utf-8")
    found = Overlap.of((str(tmp_path),), str)
    found.save(tmp_path / "overlap.npz")
    return Overlap.load(tmp_path / "overlap.npz")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Before. {LONG} After.", True),
        ("A brown fox jumps over the lazy dog, while SEVEN old wizards watch it FROM the town.", True),
        ("A brown fox jumps over the lazy dog while seven cold wizards watch it from the town.", False),
        (f"One said: {SHORT.upper()}", True),
        ("They drank the pub dry.", False),
        ("too short to count", False),
        ("\u90a3\u4e48\uff0c" + CHINESE + "\u3002", True),
        ("\u90a3\u4e48\uff0c" + CHINESE[:10] + "\u3002", False),
        # Seven letters are about three words.
        ("\u6211\u4f4f\u5728" + COUNTRY + "\u3002", False),
        ("\u4ed6\u8bf4" + PASSAGE[2:28], True),
        ("\u4ed6\u8bf4" + PASSAGE[2:27], False),
        ("", False),
    ],
)
def test_shared_sequences_are_found(overlap: Overlap, text: str, expected: bool) -> None:
    assert overlap.is_in(text) is expected


def test_contaminated_documents_are_dropped_and_counted(overlap: Overlap) -> None:
    rules = parse({"minimum_characters": 0}, CleanConfig, "a.toml")
    dropped: Counter[str] = Counter()
    documents = [Document(f"A novel. {LONG}", "a"), Document("Another novel without it.", "b")]
    assert [document.source for document in clean(documents, rules, dropped, overlap)] == ["b"]
    assert dropped == {"holds evaluation text": 1}


def test_unreadable_content_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text("{")
    with pytest.raises(CorpusError, match=r"dev.jsonl: cannot be read .*clean.evaluation_paths"):
        Overlap.of((str(tmp_path / "dev.jsonl"),), str)


WORDS = "caf\u00e9 d\u00e9j\u00e0 vu \u2126 na\u00efve \ufb01ne fa\u00e7ade \u00fcber \u00c5ngstr\u00f6m"


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
@pytest.mark.parametrize("given", ["NFC", "NFD", "invisible", "mojibake"])
def test_evaluation_texts_are_normalized_like_documents(
    tmp_path: Path, form: Literal["NFC", "NFKC"], given: Any
) -> None:
    made = {"invisible": WORDS.replace("e", "e\u200b"), "mojibake": WORDS.encode().decode("latin-1")}
    text = made[given] if given in made else unicodedata.normalize(given, WORDS)
    (tmp_path / "dev.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    rules = parse({"minimum_characters": 0, "unicode_form": form, "repair_unicode": True}, CleanConfig, "a.toml")
    overlap = Overlap.of((str(tmp_path / "dev.jsonl"),), partial(normal_text, rules=rules))
    assert [*clean([Document(f"Before. {WORDS} After.", "a")], rules, Counter(), overlap)] == []


@pytest.mark.parametrize("name", ["dev.tsv", "dev.jsonl", "dev.json", "dev.txt"])
@pytest.mark.parametrize("form", ["gz", "plain", "utf-16", "mark", "returns"])
def test_evaluation_files_are_read_as_sources_are(tmp_path: Path, name: str, form: str) -> None:
    rows = {
        "dev.tsv": f"1\tx\t{LONG}\n2\ty\t{SHORT}\n",
        "dev.jsonl": f'{{"n": {"9" * 5000}, "a": "{LONG}"}}\n\n["{SHORT}"]\n',
        "dev.json": json.dumps([LONG, {"a": SHORT, "n": None}]),
        "dev.txt": f"{LONG}\n{SHORT}",
    }
    text = rows[name]
    content = {
        "gz": gzip.compress(text.encode()),
        "plain": text.encode(),
        "utf-16": text.encode("utf-16"),
        "mark": text.encode("utf-8-sig"),
        "returns": text.replace("\n", "\r").encode(),
    }
    (tmp_path / name).write_bytes(content[form])
    # Compression is detected by the bytes, not by the name.
    overlap = Overlap.of((str((tmp_path / name).rename(tmp_path / f"{name}.gz")),), str)
    assert overlap.is_in(LONG) and overlap.is_in(SHORT)
