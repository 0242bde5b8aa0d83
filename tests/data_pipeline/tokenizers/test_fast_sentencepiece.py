"""The fast encoder gives sentencepiece's own ids, on real text and on adversarial strings."""

import io
import json
import random
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from sentencepiece import sentencepiece_model_pb2

from sesame.data_pipeline.examples.sentences import split
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers import fast_sentencepiece
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.engine import id_rows
from sesame.data_pipeline.tokenizers.fast_sentencepiece import FastEncoder
from sesame.data_pipeline.tokenizers.sentencepiece_engine import SentencePieceEngine
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import mixtures

TINY = TokenizerConfig(vocabulary_size=16 + 14)
ADVERSARIAL = [
    "",
    " ",
    "   a   b   ",
    "---",
    "a -- b --- c ---- d",
    "." * 50,
    "[CLS] [MASK] [SEP] [PAD] [UNK] <unk> <s> <0x41> <0xFF>",
    "\u2581a\u2581\u2581b \u2581",
    "a\u0000b\u0001c\u007fd\u0085e",
    "tab\tline\nreturn\r\nend",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "e\u0301 a\u0300\u0301\u0302 \u0301 \u0301x",
    "\ufb01 \u2460 \u00bd \u00b4 \u00a8 \u00af \u00b8 \u2122 \uff21\uff22\uff23 \u3000 \u00a0x",
    "\u00b4a a\u00b4 \u00a8b\u00a8",
    "\u212b \u2126 \u0130 \u0131 \u1e9e \u00df \u03a3\u03c2 \u01c5",
    "\u4eca\u5929 weather\u5f88\u597d 2024\u5e74 100% ok\uff01\uff1f",
    "\U00020000\U0002a6df \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22 \u0639\u0631\u0628\u064a",
    "\u1112\u1161\u11ab \ufeff x \u200b y \u202e z",
    "x" * 3000,
    "ab" * 3000,
    "12345678901234567890 3.14159 1,000,000 1e-9",
    "\ue000 \uffff \U0010ffff \ufffd",
    "\u201cquoted\u201d \u2018single\u2019 dash\u2014dash \u2026",
    "\u2015 \u3001\u3002\u300c\u300d \u301c \u3012",
]


LETTERS = sorted(set("".join(ADVERSARIAL))) + [chr(code) for code in range(32, 592)]
"""Characters of every kind, with many spaces."""


def prose(shared: Path, megabytes: float) -> Iterator[list[str]]:
    """Yield sentences of the English and the Chinese books, half of ``megabytes`` of each, in lists of 20,000."""
    for name in ("en/classic_books", "zh/classical_modern"):
        room = megabytes * 5e5
        with pyarrow.input_stream(str(shared / "text" / f"{name}.jsonl.zst"), compression="zstd") as file:
            text = (json.loads(line)["text"] for line in io.TextIOWrapper(file, "utf-8"))
            found = (sentence for each in text for sentence in split(each))
            while room > 0 and (some := list(islice(found, 20000))):
                room -= sum(len(sentence.encode()) for sentence in some)
                yield some


def assert_equal_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Compare row by row, so that a failure shows its text."""
    ours, reference = tokenizer.encode_flat(texts), id_rows(tokenizer._engine.encode(texts), tokenizer.dtype)
    if np.array_equal(ours.values, reference.values) and np.array_equal(ours.offsets, reference.offsets):
        return
    for row, text in enumerate(texts):
        pair = [each.values[each.offsets[row] : each.offsets[row + 1]].tolist() for each in (ours, reference)]
        assert pair[0] == pair[1], repr(text)


def fast_encoder_of(tokenizer: Tokenizer) -> FastEncoder | None:
    assert isinstance(tokenizer._engine, SentencePieceEngine)
    return tokenizer._engine.fast


def count_skipped(tokenizer: Tokenizer, texts: list[str]) -> int:
    """Return the number of texts that the fast encoder leaves to sentencepiece."""
    rows, fast = Ragged.of_bytes(text.encode() for text in texts), fast_encoder_of(tokenizer)
    assert fast is not None
    return len(fast.encode_spans(rows.values, rows.spans, np.ones(len(texts), bool), tokenizer.dtype)[1])


@pytest.fixture(
    scope="module", params=[(kind, *rest) for kind in ("bpe", "unigram") for rest in product((True, False), repeat=2)]
)
def tokenizer(request: pytest.FixtureRequest, sentences: list[str]) -> Tokenizer:
    """Both types, with and without lowercase, with and without byte fallback."""
    kind, lowercase, fallback = request.param
    settings = {"kind": kind, "vocabulary_size": 560, "lowercase": lowercase, "byte_fallback": fallback}
    text = [*sentences, *(each for each in ADVERSARIAL if len(each) < 1000)]
    return Tokenizer.from_bytes(train(text, TokenizerConfig.model_validate(settings)), "the test's tokenizer")


def test_adversarial_strings_have_the_ids_of_sentencepiece(tokenizer: Tokenizer) -> None:
    assert_equal_ids(tokenizer, [*ADVERSARIAL, *mixtures(LETTERS, 4000, 1, 40)])


def test_strings_of_supported_characters_are_encoded_by_the_fast_encoder(tokenizer: Tokenizer) -> None:
    """Random words of all supported characters, most of them in no piece, and of few, so that ties are common."""
    draw = random.Random(1)
    every = [chr(point) for points in fast_sentencepiece.PLAIN for point in points]
    texts = [
        " ".join("".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 8)))
        for letters in (every, "ab-.", "the ofand")
        for _ in range(3000)
    ]
    assert count_skipped(tokenizer, texts) < 0.25 * len(texts)
    assert_equal_ids(tokenizer, texts)


def test_sentences_have_the_ids_of_sentencepiece_and_are_all_encoded_fast(
    tokenizer: Tokenizer, sentences: list[str]
) -> None:
    assert not count_skipped(tokenizer, sentences)
    assert_equal_ids(tokenizer, sentences)


def test_words_evicted_from_the_cache_are_encoded_again(
    sentences: list[str], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_sentencepiece, "CACHED_WORDS", 8)
    assert isinstance(tokenizer._engine, SentencePieceEngine)
    small = Tokenizer.from_bytes(tokenizer._engine.serialized_model_proto(), "the same with a small cache")
    assert_equal_ids(small, sentences)


def test_near_ties_of_a_unigram_model_are_decided_as_sentencepiece_does() -> None:
    """Scores of pieces with which many segmentations of a word differ by less than the rounding of 32 bits."""
    trained = train([f"a b ab ba aab abb {'ab' * n} {'ba' * n}" for n in range(1, 60)], TINY)
    proto = sentencepiece_model_pb2.ModelProto.FromString(trained)  # pyright: ignore[reportAttributeAccessIssue]
    draw = random.Random(2)
    for piece in proto.pieces:
        if piece.type == fast_sentencepiece.NORMAL:
            piece.score = -1.1 * len(piece.piece) + draw.randint(0, 7) * 2.0**-22
    tokenizer = Tokenizer.from_bytes(proto.SerializeToString(), "ties")
    assert fast_encoder_of(tokenizer) is not None
    texts = [" ".join("".join(draw.choices("ab", k=draw.randint(1, 9))) for _ in range(40)) for _ in range(2000)]
    assert_equal_ids(tokenizer, texts)


def test_an_unsupported_model_is_left_to_sentencepiece(sentences: list[str]) -> None:
    proto = sentencepiece_model_pb2.ModelProto.FromString(  # pyright: ignore[reportAttributeAccessIssue]
        train(sentences, TokenizerConfig(vocabulary_size=320))
    )
    proto.normalizer_spec.remove_extra_whitespaces = False
    assert fast_encoder_of(Tokenizer.from_bytes(proto.SerializeToString(), "with all spaces")) is None


@pytest.mark.slow
@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_hundred_megabytes_have_the_ids_of_sentencepiece(shared: Path, kind: str, fallback: bool) -> None:
    sample = [sentence for some in prose(shared, 8) for sentence in some]
    config = TokenizerConfig.model_validate({"kind": kind, "vocabulary_size": 8192, "byte_fallback": fallback})
    tokenizer = Tokenizer.from_bytes(train(sample, config), "the test's tokenizer")
    assert fast_encoder_of(tokenizer) is not None
    compared = 0
    for texts in prose(shared, 130):
        assert_equal_ids(tokenizer, texts)
        compared += sum(len(text.encode()) for text in texts)
    assert compared > 100e6
