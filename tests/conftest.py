"""Fixtures of several packages: real data, a small prepared dataset, and groups of gloo processes."""

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.liveness import outputs

ROOT = Path(__file__).parent.parent


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: compressed ones hold the time, and two processes must find the same tests."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data, or skip."""
    folder = Path(os.environ.get("SESAME_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real data in {folder}, which does not exist")
    return folder / "data"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JSON lines of documents in a small artificial language, in which the words of a sentence depend on its topic."""
    draw = random.Random(3)
    syllables = [a + b for a in "bdfgklmnprstv" for b in "aeiou"]
    topics = [["".join(draw.choices(syllables, k=draw.randint(2, 3))) for _ in range(40)] for _ in range(12)]
    common = ["the", "a", "of", "and", "is", "not", "under", "very"]
    path = tmp_path_factory.mktemp("corpus") / "documents.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(300):
            words = draw.choice(topics)
            sentences = [
                " ".join(draw.choice(words if draw.random() < 0.6 else common) for _ in range(draw.randint(4, 14)))
                for _ in range(draw.randint(6, 14))
            ]
            text = " ".join(sentence.capitalize() + "." for sentence in sentences)
            file.write(json.dumps({"text": text}) + "\n")
    return path


def dataset_folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which a dataset of the tests is prepared.

    ``SESAME_TEST_DATASETS`` names a folder of prepared datasets instead, for machines without Ray.
    """
    prepared = os.environ.get("SESAME_TEST_DATASETS")
    return Path(prepared).absolute() / name if prepared else tmp_path_factory.mktemp(name) / "dataset"


@pytest.fixture(scope="session")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared for BERT: next-sentence pairs, masked tokens, a vocabulary of 320 pieces."""
    output = dataset_folder("pairs", tmp_path_factory)
    if output.exists():
        return output
    from sesame import configs
    from sesame.data_pipeline.prepare import CorpusConfig, prepare

    values = {
        "seed": 1,
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(corpus)]},
        "tokenizer": {"vocabulary_size": 320, "kind": "unigram"},
        "segment": {"kind": "next_sentence", "sequence_length": 48},
        "corrupt": {"kind": "masked_tokens", "mask_probability": 0.2},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": 2},
    }
    return prepare(configs.parse(values, CorpusConfig, "the test's corpus"), output)


World = Callable[..., list[str]]


@pytest.fixture
def world() -> World:
    """``world(n, script, *arguments)`` runs a script in n processes connected by gloo, and returns their output."""

    def run(processes: int, script: Path, *arguments: str) -> list[str]:
        with socket.socket() as listener:
            # A port that is free now; one that is drawn is taken at times on a machine with other runs.
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        running = []
        for rank in range(processes):
            environment = os.environ | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "DS_ACCELERATOR": "cpu",
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, str(script), *arguments]
            running.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            )
        printed = outputs(running)
        for process, output in zip(running, printed, strict=True):
            assert process.returncode == 0, output[-3000:]
        return printed

    return run
