"""Fixtures: a tokenizer, a backbone and task files that are small enough to train in a second."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.storage import digest_of
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation import jobs
from sesame.evaluation.queue import worker
from sesame.evaluation.results.result import MODELS, Job
from sesame.pretrain import learner
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.models.bert import Bert, BertConfig
from sesame.pretrain.models.family import Vocabulary
from tests.evaluation.made_suite import Calls

VOCABULARY = 128


class LetterTokenizer:
    """One token for each character, with the part of ``Tokenizer`` that the evaluation uses."""

    special = SimpleNamespace(pad=0, unknown=1, cls=2, sep=3, mask=4)

    def encode(self, text: str) -> list[int]:
        return [5 + ord(letter) % (VOCABULARY - 5) for letter in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode_ranges(self, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
        places = [np.arange(len(text), dtype=np.int32)[:, None] for text in texts]
        return [
            (self.encode(text), place + np.array([0, 1], np.int32)) for text, place in zip(texts, places, strict=True)
        ]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads do not accelerate small matrix products, and slow them down on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def letter_tokenizer() -> LetterTokenizer:
    return LetterTokenizer()


@pytest.fixture
def make_backbone() -> Callable[[int], Bert]:
    """seed -> a one-layer BERT."""
    config = BertConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions=64)

    def make(seed: int) -> Bert:
        with torch.device("meta"):
            module = Bert(config, Vocabulary(VOCABULARY))
        draw = random_value(seed, config.init_std)
        materialise(module, lambda name, parameter: draw(name, parameter.shape))
        return module

    return make


@pytest.fixture
def write_checkpoint(dataset: Path) -> Callable[..., Path]:
    """(folder, seed of the weights, step) -> the folder with a one-layer BERT that knows the dataset's tokenizer."""
    content = (dataset / "tokenizer.model").read_bytes()
    pieces = len(Tokenizer.load(dataset / "tokenizer.model"))
    config = BertConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions=64)

    def write(folder: Path, seed: int = 1, step: int = 1) -> Path:
        module = learner.build(config, {"masked_lm": 1.0}, Vocabulary(pieces))
        draw = random_value(seed, config.init_std)
        weights = {name: draw(name, parameter.shape) for name, parameter in module.named_parameters()}
        metadata = CheckpointMetadata(
            step=step,
            samples=8 * step,
            seed=seed,
            vocabulary_size=pieces,
            tokenizer_sha256=digest_of(content),
            config={
                "model": configs.dump(config),
                "objectives": {"masked_lm": 1.0},
                "data": {"dataset": str(dataset)},
            },
        )
        folder.mkdir(parents=True)
        write_weights(folder, weights, content, metadata)
        return folder

    return write


@pytest.fixture
def backbone(make_backbone: Callable[[int], Bert]) -> Bert:
    return make_backbone(1)


@pytest.fixture
def glue(shared: Path) -> Path:
    """Folder of the official GLUE files, or skip."""
    folder = shared / "glue"
    if not folder.is_dir():
        pytest.skip(f"needs the GLUE files in {folder}")
    return folder


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A data directory with an easy SST-2: positive sentences consist of z, negative sentences of a."""
    generator = np.random.default_rng(1)
    for split, rows in (("train", 200), ("dev", 50), ("test", 20)):
        lines = ["index\tsentence" if split == "test" else "sentence\tlabel"]
        for number in range(rows):
            label = int(generator.integers(2))
            sentence = " ".join(["az"[label] * int(generator.integers(2, 6)) for _ in range(3)])
            lines.append(f"{number}\t{sentence}" if split == "test" else f"{sentence}\t{label}")
        path = tmp_path / "SST-2" / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def architectures() -> dict[str, BertConfig]:
    """Name of a checkpoint -> its configuration, where it is another one."""
    return {}


@pytest.fixture
def calls(
    monkeypatch: pytest.MonkeyPatch,
    architectures: dict[str, BertConfig],
    letter_tokenizer: Tokenizer,
    make_backbone: Callable[[int], Bert],
    tmp_path: Path,
) -> Calls:
    """Replace the checkpoint by a tiny model."""
    calls = Calls([], [])
    (tmp_path / "tokenizer.model").write_bytes(b"letters")

    def load_backbone(path: Path) -> SimpleNamespace:
        calls.loads.append(path.name)
        backbone = make_backbone(7 if path.name == "run" else 8)
        model = architectures.get(
            path.name, BertConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions=64)
        )
        return SimpleNamespace(backbone=backbone, tokenizer_path=tmp_path / "tokenizer.model", step=12, model=model)

    def run_job(job: Job, *arguments: Any) -> Any:
        calls.seeds.append(MODELS[job.model](job.seed if job.start is None else job.start.job.seed))
        return jobs.run_job(job, *arguments)

    monkeypatch.setattr(jobs, "load_backbone", load_backbone)
    monkeypatch.setattr(worker, "run_job", run_job)
    monkeypatch.setattr(Tokenizer, "load", lambda path: letter_tokenizer, raising=False)
    return calls
