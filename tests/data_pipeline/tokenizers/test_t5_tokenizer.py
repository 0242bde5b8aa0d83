"""T5's own sentencepiece model: its special tokens, and sentinels that only the files beside it have."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.tokenizers.auto_tokenizer import auto_tokenizer


def model_as_t5s(sentences: list[str]) -> bytes:
    """A sentencepiece model with T5's special tokens."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=300,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.mark.parametrize(
    "settings",
    [
        {"extra_ids": 3},
        {"additional_special_tokens": [f"<extra_id_{number}>" for number in range(3)]},
        {"additional_special_tokens": [{"content": f"<extra_id_{number}>"} for number in range(3)]},
        {"added_tokens_decoder": {str(302 - number): {"content": f"<extra_id_{number}>"} for number in range(3)}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_sentinels_are_read_from_a_folders_settings(sentences: list[str], tmp_path: Path, settings: dict) -> None:
    (tmp_path / "spiece.model").write_bytes(model_as_t5s(sentences))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Tokenizer.from_bytes(read_tokenizer(tmp_path), "T5's own").sentinels.tolist() == [302, 301, 300]


@pytest.mark.parametrize("with_json", [True, False])
def test_t5s_sentinels_have_transformers_ids(sentences: list[str], tmp_path: Path, with_json: bool) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "spiece.model").write_bytes(model_as_t5s(sentences))
    theirs = transformers.T5Tokenizer.from_pretrained(tmp_path, extra_ids=7)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(model_as_t5s(sentences))
    if not with_json:
        (tmp_path / "tokenizer.json").unlink()
    ours = Tokenizer.from_bytes(read_tokenizer(tmp_path), "T5's own")
    assert ours.sentinels.tolist() == theirs.convert_tokens_to_ids([f"<extra_id_{number}>" for number in range(7)])
    assert len(ours) == 307 and ours.sentinels.tolist() == list(range(306, 299, -1))
    assert ours.special.ids() == {"pad": 0, "unk": 2, "cls": 1, "sep": 1}
    for text in sentences[:50]:
        assert [*ours.encode(text), 1] == theirs.encode(text)


def test_t5s_own_model_has_no_token_before_a_text(sentences: list[str], tmp_path: Path) -> None:
    model = io.BytesIO(model_as_t5s(sentences))
    path = tmp_path / "spiece.model"
    path.write_bytes(model.getvalue())
    ids = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    assert write_tokenizer(path, tmp_path / "there", "t5", None) == ids
    theirs = auto_tokenizer(tmp_path / "there", "t5")
    processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())  # pyright: ignore
    assert theirs.encode(sentences[0]) == [*processor.encode(sentences[0]), 1]
    assert read_tokenizer(tmp_path / "there") == model.getvalue()
    with pytest.raises(ConfigError, match=r"spiece\.model: has no cls token .* which a bert needs"):
        write_tokenizer(path, tmp_path / "other", "bert", None)
