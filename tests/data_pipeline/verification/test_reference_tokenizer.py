"""The reference tokenizer agrees with the library of each format."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from tests.data_pipeline.given_prose import prose

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = prose(20_000, 7)
Encode = Callable[[str], Sequence[int]]


def sentence_pieces(path: Path, **settings: Any) -> Encode:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXT.split(". ")),
        model_writer=model,
        character_coverage=1.0,
        vocab_size=settings.pop("vocab_size", 150),
        minloglevel=2,
        bos_id=-1,
        eos_id=-1,
        pad_id=0,
        unk_id=1,
        pad_piece=NAMES[0],
        unk_piece=NAMES[1],
        control_symbols=NAMES[2:],
        **settings,
    )
    path.write_bytes(model.getvalue())
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return processor.encode


def described(path: Path, engine: tokenizers.Tokenizer) -> Encode:
    path.write_text(engine.to_str(), encoding="utf-8")
    return lambda text: engine.encode(text).ids


def word_pieces(path: Path) -> Encode:
    letters = sorted({*TEXT.lower()} - {" "})
    pieces = [*NAMES, *letters, *(f"##{letter}" for letter in letters)]
    engine = tokenizers.Tokenizer(
        models.WordPiece({piece: token for token, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore[reportAttributeAccessIssue]
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    return described(path, engine)


def byte_pairs(path: Path) -> Encode:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*NAMES, *letters, "\u0120b"]
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    engine = tokenizers.Tokenizer(models.BPE(vocabulary, [("\u0120", "b")]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # pyright: ignore[reportAttributeAccessIssue]
    return described(path, engine)


MAKERS: dict[str, Callable[[Path], Encode]] = {
    "unigram": sentence_pieces,
    "lower case": lambda path: sentence_pieces(path, normalization_rule_name="nmt_nfkc_cf"),
    "byte pairs of sentencepiece": lambda path: sentence_pieces(path, model_type="bpe"),
    "byte fallback": lambda path: sentence_pieces(path, byte_fallback=True, vocab_size=400),
    "white space after words": lambda path: sentence_pieces(path, treat_whitespace_as_suffix=True),
    "no space before a text": lambda path: sentence_pieces(path, add_dummy_prefix=False),
    "word pieces": word_pieces,
    "byte-level pairs": byte_pairs,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_pieces_have_their_text_and_words_begin_at_white_space(kind: str, tmp_path: Path) -> None:
    encode = MAKERS[kind](tmp_path / "tokenizer")
    reference = ReferenceTokenizer.load(tmp_path / "tokenizer", SPECIAL)
    for seed in range(20):
        # Without punctuation, of which WordPiece makes words.
        text = prose(300, seed).replace(".", "")
        ids = np.array(encode(text))
        (found,) = reference.text(ids.tolist())
        assert found.split() == reference.normalize(text).split()
        assert int(reference.visible[ids].sum()) == sum(map(len, text.split()))
        begins = reference.begins_word[ids]
        begins[0] = True
        begins[1:] |= reference.ends_word[ids][:-1]
        assert begins.sum() == len(text.split())


@pytest.mark.parametrize("kind", ["unigram", "word pieces"])
def test_unknown_tokens_split_the_text(kind: str, tmp_path: Path) -> None:
    encode = MAKERS[kind](tmp_path / "tokenizer")
    reference = ReferenceTokenizer.load(tmp_path / "tokenizer", SPECIAL)
    first, second = TEXT.split()[:2]
    found = [" ".join(each.split()) for each in reference.text(list(encode(f"{first} \u0416\u0416 {second}")))]
    assert found == [reference.normalize(first).strip(), reference.normalize(second).strip()]


def test_chinese_has_words_without_white_space(tmp_path: Path) -> None:
    encode = sentence_pieces(tmp_path / "tokenizer", byte_fallback=True, vocab_size=400)
    reference = ReferenceTokenizer.load(tmp_path / "tokenizer", SPECIAL)
    ids = list(encode("\u4f60\u597d"))
    assert reference.text(ids)[0].strip() == "\u4f60\u597d" and int(reference.visible[ids].sum()) == 2
    assert reference.begins_word[ids].sum() == 3, "the space before the text, and the first byte of each character"


def test_an_incomplete_character_at_the_end_is_dropped(tmp_path: Path) -> None:
    encode = byte_pairs(tmp_path / "tokenizer")
    reference = ReferenceTokenizer.load(tmp_path / "tokenizer", SPECIAL)
    ids = list(encode("a\u00e9\u00e9"))
    assert reference.text(ids[:-1]) == [" a\u00e9"]


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    for content in (b"{}", b"\x00nothing"):
        (tmp_path / "tokenizer").write_bytes(content)
        with pytest.raises(DatasetError, match=r"tokenizer: its library cannot read it \("):
            ReferenceTokenizer.load(tmp_path / "tokenizer", SPECIAL)
    sentence_pieces(tmp_path / "tokenizer")
    with pytest.raises(DatasetError, match=r"has no id 1000 \(mask\)"):
        ReferenceTokenizer.load(tmp_path / "tokenizer", {**SPECIAL, "mask": 1000})
