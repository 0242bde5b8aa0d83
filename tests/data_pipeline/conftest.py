"""Fixtures of the pipeline's tests: a small tokenizer, and writing small corpora."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from data_pipeline.sentences import split
from data_pipeline.tokenizer import Tokenizer, TokenizerConfig, train


@pytest.fixture(scope="session")
def sentences(corpus: Path) -> list[str]:
    """Sentences of the made-up language."""
    return [sentence for line in corpus.open(encoding="utf-8") for sentence in split(json.loads(line)["text"])]


@pytest.fixture(scope="session")
def tokenizer(sentences: list[str]) -> Tokenizer:
    return Tokenizer(train(sentences, TokenizerConfig(vocabulary_size=320)), "the test's tokenizer")


@pytest.fixture
def json_lines(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Write texts as JSON lines; the file."""

    def write(texts: Iterable[str], name: str = "corpus.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        return path

    return write
