"""ELMo's characters of each kind of tokenizer's pieces, and what the other families do not import for them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.models.elmo import characters
from sesame.pretrain.models.family import Vocabulary
from tests.data_pipeline.given_texts import LETTERS, MERGES


def vocabulary_of(path: Path) -> tuple[Tokenizer, Vocabulary]:
    tokenizer = Tokenizer.load(path)
    return tokenizer, Vocabulary(len(tokenizer), path)


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sentencepiece model."""
    path = tmp_path_factory.mktemp("tokenizer") / "small.model"
    texts = [json.loads(line)["text"] for line in corpus.open(encoding="utf-8")]
    sentences = [sentence for text in texts for sentence in text.split(". ")]
    path.write_bytes(train(sentences, TokenizerConfig(vocabulary_size=320)))
    return path


def test_characters_are_the_bytes_of_each_piece(model: Path) -> None:
    tokenizer, vocabulary = vocabulary_of(model)
    table = characters(vocabulary, 12)
    assert table.shape == (len(tokenizer), 12) and table.dtype == np.uint16 and table.max() == 260
    assert table[tokenizer.special.cls, :4].tolist() == [258, 256, 259, 260]
    assert table[tokenizer.special.sep, :4].tolist() == [258, 257, 259, 260]
    for token in tokenizer.ordinary:
        begins, text = tokenizer.shown(int(token))
        row = [*([258] if begins else []), *text.encode("utf-8"), 259]
        assert table[token].tolist() == row + [260] * (12 - len(row)) or len(row) > 12
    assert len(np.unique(characters(vocabulary, 50)[tokenizer.ordinary], axis=0)) == len(tokenizer.ordinary)


def test_a_truncated_piece_has_an_end_of_word(model: Path) -> None:
    table = characters(vocabulary_of(model)[1], 4)
    assert ((table == 259).sum(1) == 1).all()


def test_a_byte_piece_is_that_byte(tmp_path: Path) -> None:
    path = tmp_path / "bytes.model"
    text = ["caf\u00e9 na\u00efve", "na\u00efve caf\u00e9"] * 20
    path.write_bytes(train(text, TokenizerConfig(vocabulary_size=272, byte_fallback=True)))
    tokenizer, vocabulary = vocabulary_of(path)
    rows = {tokenizer.piece(token): row[row < 260].tolist() for token, row in enumerate(characters(vocabulary, 20))}
    assert rows["<0xE4>"] == [0xE4, 259] and rows["\u00e9"] == [0xC3, 0xA9, 259]
    assert [rows[f"<0x{byte:02X}>"] for byte in range(256)] == [[byte, 259] for byte in range(256)]


def test_pieces_of_byte_level_bpe_are_their_bytes(tmp_path: Path) -> None:
    """Single bytes all decode to the same replacement character, but have different rows."""
    pieces = [*LETTERS, *map("".join, MERGES), "<|endoftext|>"]
    (tmp_path / "encoder.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    merges = ["#version: 0.2", *map(" ".join, MERGES), ""]
    (tmp_path / "vocab.bpe").write_text("\n".join(merges), encoding="utf-8")
    tokenizer, vocabulary = vocabulary_of(tmp_path)
    table = characters(vocabulary, 8)
    rows = {tokenizer.piece(token): row for token, row in enumerate(table.tolist())}
    assert rows["he"] == [*b"he", 259, *[260] * 5]
    assert rows["\u0120the"] == [258, *b"the", 259, *[260] * 3]
    lone = [row[0] for piece, row in rows.items() if len(piece) == 1 and piece != "\u0120"]
    assert sorted(lone) == [byte for byte in range(256) if byte != 0x20]
    assert len(np.unique(table, axis=0)) == len(tokenizer)


def test_word_pieces_that_begin_and_that_continue_a_word_differ(tmp_path: Path) -> None:
    """Also where both are decoded without a space, as in Chinese."""
    path = tmp_path / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "able", "##able", "\u4eca", "##\u4eca"]
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    rows = characters(vocabulary_of(path)[1], 8).tolist()
    assert rows[5:7] == [[258, *b"able", 259, 260, 260], [*b"able", 259, 260, 260, 260]]
    assert rows[8] == [*"\u4eca".encode(), 259, *[260] * 4] and rows[7][:-1] == [258, *rows[8][:-2]]


def test_building_bert_imports_no_tokenizer_library() -> None:
    code = """
import sys
from pathlib import Path
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
family = FAMILIES["bert"]
config = family.config(layers=1, width=8, heads=2, feed_forward_width=8)
family.module(config, Vocabulary(64, Path("missing.model")))
print({"sentencepiece", "tokenizers", "ray"} & sys.modules.keys())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
