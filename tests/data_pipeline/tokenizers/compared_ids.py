"""Comparison of ids with those of transformers, over texts of many scripts."""

import unicodedata
from pathlib import Path
from typing import Any

from sesame.data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

TEXTS = [
    "",
    " ",
    "\u00a0\t\r\n",
    "Don't  stop-- now!?  I'll; we've",
    " two  spaces\tand a tab \n and lines\n",
    "caf\u00e9 cafe\u0301 \u0130stanbul \u017ftra\u00dfe \ufb01ne STRA\u1e9eE",
    "a\u200bb\ufeffc\u00add\u0000e\ufffdf",
    "x" * 100 + " " + "x" * 101,
    "\u4eca\u5929Hello\u5929\u6c14\U00020000\u3400\u3000\u3002",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \ud55c\uad6d\uc5b4 \uff76\uff9e\uff8a",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600\ufe0f \U0001f1e9\U0001f1ea",
    "1,234.56 $5 50% a_b c@d.e #f \u00bd \u2126",
    "\u202eright\u202c \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "one\u2028two\u2029three\u0085four",
    unicodedata.normalize("NFD", "Ti\u1ebfng Vi\u1ec7t \uc548\ub155 \u0915\u093c \u30ac\u30d1 \u01d6"),
    " \u2581 a \u2581\u2581b un##able ## \u0120a",
]


def assert_equal_ids(ours: Tokenizer, theirs: Any, texts: list[str]) -> None:
    found = theirs(texts, add_special_tokens=False)["input_ids"]
    for text, ids, expected in zip(texts, found, ours.encode_batch(texts), strict=True):
        assert ids == expected == ours.encode(text), text
    assert len(theirs) == len(ours)


def written_again(model: bytes, tmp_path: Path, model_type: str) -> bytes:
    """Export and import."""
    file, folder = tmp_path / "given.model", tmp_path / "there"
    file.write_bytes(model)
    write_tokenizer(file, folder, model_type, 512)
    return read_tokenizer(folder)
