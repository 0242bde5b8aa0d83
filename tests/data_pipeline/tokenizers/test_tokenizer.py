"""Training and applying sentencepiece models."""

from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from sesame.configs.errors import ConfigError, CorpusError
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.special_tokens import PIECES, Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_equal_text_gives_equal_bytes(sentences: list[str], kind: str) -> None:
    config = TokenizerConfig.model_validate({"kind": kind, "vocabulary_size": 300})
    assert train(sentences[:1500], config) == train(iter(sentences[:1500]), config)


def test_special_tokens_have_the_first_ids_and_are_never_made_from_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.special == Special(0, 1, 2, 3, 4)
    assert [tokenizer.piece(token) for token in tokenizer.special.ids().values()] == list(PIECES.values())
    assert not set(tokenizer.encode("[CLS] [MASK] a [SEP]")) & {0, 2, 3, 4}
    assert not set(tokenizer.ordinary.tolist()) & set(tokenizer.special)
    assert len(tokenizer.ordinary) == len(tokenizer) - 5


def test_text_is_decoded_in_lowercase(tokenizer: Tokenizer, sentences: list[str]) -> None:
    assert tokenizer.decode(tokenizer.encode(sentences[0])) == sentences[0].lower()
    assert tokenizer.encode_batch(sentences[:5]) == [tokenizer.encode(sentence) for sentence in sentences[:5]]


def test_a_cased_model_keeps_case(sentences: list[str]) -> None:
    cased = Tokenizer.from_bytes(train(sentences, TokenizerConfig(vocabulary_size=320, lowercase=False)), "cased")
    assert cased.decode(cased.encode(sentences[0])) == sentences[0]


def test_a_word_starts_where_sentencepiece_marks_it(tokenizer: Tokenizer, sentences: list[str]) -> None:
    for sentence in sentences[:20]:
        ids = np.array(tokenizer.encode(sentence))
        assert tokenizer.starts_word[ids].sum() == len(sentence.split())


def test_in_chinese_each_piece_is_a_word() -> None:
    text = [
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d",
        "\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65",
        "\u5929\u6c14\u4e0d\u597d",
    ]
    settings = TokenizerConfig(vocabulary_size=21, character_coverage=0.9995)
    tokenizer = Tokenizer.from_bytes(train(text * 20, settings), "the test's tokenizer")
    ids = tokenizer.encode(text[0])
    assert len(ids) > 1
    assert tokenizer.starts_word[ids].all()


def test_a_published_models_special_tokens_are_found_by_their_names(sentences: list[str], tmp_path: Path) -> None:
    options = {"vocab_size": 300, "minloglevel": 2, "pad_id": 3, "control_symbols": ["<mask>", "<cls>", "<sep>"]}
    prefix = tmp_path / "given"
    sentencepiece.SentencePieceTrainer.Train(sentence_iterator=iter(sentences), model_prefix=str(prefix), **options)
    given = Tokenizer.load(prefix.with_suffix(".model"))
    assert [given.piece(token) for token in given.special.ids().values()] == [
        "<pad>",
        "<unk>",
        "<cls>",
        "<sep>",
        "<mask>",
    ]


def test_a_model_without_a_mask_is_refused(sentences: list[str], tmp_path: Path) -> None:
    prefix = tmp_path / "given"
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences), model_prefix=str(prefix), vocab_size=300, minloglevel=2, pad_id=3
    )
    with pytest.raises(ConfigError, match=r"given.model: has no mask token"):
        Tokenizer.load(prefix.with_suffix(".model"))


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"x.model: is not a sentencepiece model"):
        Tokenizer.load(tmp_path / "x.model")
    with pytest.raises(ConfigError, match=r"y.model: no such file; name the file or folder"):
        Tokenizer.load(tmp_path / "y.model")


def test_too_little_text_for_the_vocabulary_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"too small for tokenizer\.vocabulary_size 8192"):
        train(["a few words only"], TokenizerConfig())
