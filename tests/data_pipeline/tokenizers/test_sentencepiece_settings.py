"""A sentencepiece model's own settings are used, and those that transformers keeps beside it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.cleaning.clean import normalize
from sesame.data_pipeline.examples.corrupt import CorruptConfig, Vocabulary, corrupt
from sesame.data_pipeline.prepare import prepare
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.sentencepiece_engine import SentencePieceEngine
from sesame.data_pipeline.tokenizers.sentencepiece_proto import NORMAL, model_proto
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_texts import random_texts
from tests.data_pipeline.tokenizers.corpus_config import config

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def suffixed(sentences: list[str]) -> Tokenizer:
    """A model with treat_whitespace_as_suffix."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=320,
        minloglevel=2,
        pad_id=3,
        treat_whitespace_as_suffix=True,
        control_symbols=["<mask>", "<cls>", "<sep>"],
    )
    return Tokenizer.from_bytes(model.getvalue(), "suffixes")


def test_words_that_end_in_a_mark_are_masked_whole(suffixed: Tokenizer, sentences: list[str]) -> None:
    special = suffixed.special
    texts = [" ".join(sentences[start : start + 8]) for start in range(0, 800, 8)]
    ids = [[special.cls, *suffixed.encode(each), special.sep] for each in texts]
    lengths = [len(each) for each in ids]
    rows = Ragged(np.array([token for each in ids for token in each], np.uint16), np.append(0, np.cumsum(lengths)))
    config = CorruptConfig(kind="masked_words", mask_probability=0.3, mask_share=1.0, random_share=0.0)
    found = corrupt(rows, config, Vocabulary.of(suffixed), generator(1, "test"))
    hidden = np.zeros(len(rows.values), bool)
    hidden[found.positions.values + np.repeat(rows.offsets[:-1], found.positions.lengths)] = True
    words = 0
    for row, text in enumerate(texts):
        tokens = ids[row][1:-1]
        ends = [place for place, token in enumerate(tokens, 1) if suffixed.piece(token).endswith("\u2581")]
        assert len(ends) == len(text.split()), "a word is text between white space"
        mine = hidden[rows.offsets[row] + 1 : rows.offsets[row + 1] - 1]
        whole = [mine[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
        assert all(each.all() or not each.any() for each in whole), text
        words += sum(bool(each.all()) for each in whole)
    assert words > 300


def test_a_dataset_of_words_that_end_in_a_mark_is_verified(suffixed: Tokenizer, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "suffixes.model"
    assert isinstance(suffixed._engine, SentencePieceEngine)
    path.write_bytes(suffixed._engine.serialized_model_proto())
    prepare(config(tmp_path / "dataset", corpus, path, "full_sentences", "masked_ngrams"), tmp_path / "dataset")
    verify(tmp_path / "dataset")
    with pytest.raises(ConfigError, match=r"suffixes\.model: has treat_whitespace_as_suffix, which .* cannot do"):
        write_tokenizer(path, tmp_path / "there", "bert", None)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("fallback", [True, False])
def test_a_text_without_a_mark_before_it_has_sentencepieces_ids(kind: str, fallback: bool) -> None:
    """Sentences that follow another one without a space are encoded so."""
    texts = [text for each in random_texts(800, 5) for text in normalize(each, "NFC").text.split("\n") if text]
    settings = {"kind": kind, "vocabulary_size": 1300, "byte_fallback": fallback, "lowercase": False}
    model = train(texts, TokenizerConfig.model_validate(settings))
    tokenizer, proto = Tokenizer.from_bytes(model, "the test's"), model_proto(model)
    proto.normalizer_spec.add_dummy_prefix = False
    library: Any = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())  # pyright: ignore
    assert isinstance(tokenizer._engine, SentencePieceEngine)
    rows, fast = Ragged.of_bytes(text.encode() for text in texts), tokenizer._engine.fast
    assert fast is not None
    ids, skipped = fast.encode_spans(rows.values, rows.spans, np.zeros(len(texts), bool), tokenizer.dtype)
    compared = sorted({*range(len(texts))} - {*skipped.tolist()})
    assert len(compared) > 300
    for row in compared:
        assert ids.values[ids.offsets[row] : ids.offsets[row + 1]].tolist() == library.encode(texts[row]), texts[row]


def test_unused_pieces_are_no_random_replacements(sentences: list[str]) -> None:
    proto = model_proto(train(sentences, TokenizerConfig(vocabulary_size=320)))
    normal = next(token for token, piece in enumerate(proto.pieces) if piece.type == NORMAL and len(piece.piece) > 3)
    proto.pieces[normal].type = proto.pieces[normal].Type.Value("UNUSED")
    tokenizer = Tokenizer.from_bytes(proto.SerializeToString(), "one piece less")
    assert normal not in tokenizer.ordinary


def test_a_user_defined_mask_is_not_made_from_text(sentences: list[str]) -> None:
    proto = model_proto(train(sentences, TokenizerConfig(vocabulary_size=320)))
    proto.pieces[4].type = proto.pieces[4].Type.Value("USER_DEFINED")
    tokenizer = Tokenizer.from_bytes(proto.SerializeToString(), "a listed mask")
    assert tokenizer.special.mask == 4 and 4 not in tokenizer.encode("the [MASK] of")


@pytest.mark.parametrize("by_json", [True, False])
@pytest.mark.parametrize("keep_accents", [True, False])
def test_alberts_folding_is_applied(sentences: list[str], tmp_path: Path, by_json: bool, keep_accents: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    model, text = io.BytesIO(), [*sentences, *["caf\u00e9 cafe na\u00efve naive"] * 50]
    names = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": SPECIAL[2:]}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(each.lower() for each in text),
        model_writer=model,
        vocab_size=320,
        minloglevel=2,
        **names,
    )
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    theirs = transformers.AlbertTokenizer.from_pretrained(str(tmp_path), keep_accents=keep_accents)
    theirs.save_pretrained(str(tmp_path))
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    if not by_json:
        (tmp_path / "tokenizer.json").unlink()
    ours = Tokenizer.from_bytes(read_tokenizer(tmp_path), "ALBERT's kind")
    for each in ["The CAF\u00c9 is na\u00efve", "``Cafe'' \uff21 \u00c5", "e\u0301 E\u0301", *sentences[:100]]:
        assert ours.encode(each) == theirs.encode(each, add_special_tokens=False), each
    assert "capital letters" in ours.losses and ("accents" in ours.losses) != keep_accents
