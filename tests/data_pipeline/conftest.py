"""Fixtures of the pipeline's tests: a small tokenizer, and writing small corpora."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from sesame.data_pipeline import prepare, workers
from sesame.data_pipeline.cleaning import parts, pieces
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.examples.sentences import split
from sesame.data_pipeline.ledger import Ledger
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def sentences(corpus: Path) -> list[str]:
    """Sentences of the made-up language."""
    return [sentence for line in corpus.open(encoding="utf-8") for sentence in split(json.loads(line)["text"])]


@pytest.fixture(scope="session")
def tokenizer(sentences: list[str]) -> Tokenizer:
    return Tokenizer.from_bytes(train(sentences, TokenizerConfig(vocabulary_size=320)), "the test's tokenizer")


class InProcess:
    """In place of the cluster: each job at once, in this process, where a test may replace what it calls."""

    def __init__(self, *_: Any):
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, title: str, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [function(*job) for job in jobs]

    def once(self, title: str, function: Callable[[], Any]) -> Any:
        return function()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets are prepared without other processes, long documents begin at 3,000 characters."""
    monkeypatch.setattr(prepare, "Workers", InProcess)
    monkeypatch.setattr(pieces, "LONGEST_CHARACTERS", 3000)
    monkeypatch.setattr(parts, "PART_CHARACTERS", 24_000)
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 12_000)


@pytest.fixture
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray cluster for all of a test's preparations."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"), prepare.RESULTS)
    with workers.Workers(workers.WorkersConfig(count=2), Console(), ledger), pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.ray, "init", lambda **_: None)
        patch.setattr(workers.ray, "shutdown", lambda: None)
        yield


@pytest.fixture
def json_lines(tmp_path: Path) -> Callable[[Iterable[str]], Path]:
    """Write texts as JSON lines; the file."""

    def write(texts: Iterable[str], name: str = "corpus.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        return path

    return write
