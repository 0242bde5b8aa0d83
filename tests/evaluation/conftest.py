"""A tokenizer, a backbone and task files that are small enough to train in a second."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pretrain.initialization import materialise, random_value
from pretrain.models.bert import Bert, BertConfig
from pretrain.models.family import Vocabulary

VOCABULARY = 128


class LetterTokenizer:
    """One token for each character; enough of the ``Tokenizer`` for the evaluation stage."""

    special = SimpleNamespace(pad=0, unknown=1, cls=2, sep=3, mask=4)

    def encode(self, text: str) -> list[int]:
        return [5 + ord(letter) % (VOCABULARY - 5) for letter in text]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products gain nothing from threads, and lose much to them where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tokenizer() -> LetterTokenizer:
    return LetterTokenizer()


@pytest.fixture
def make_backbone() -> Callable[[int], nn.Module]:
    """seed -> a one-layer BERT."""
    config = BertConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions=64)

    def make(seed: int) -> nn.Module:
        with torch.device("meta"):
            module = Bert(config, Vocabulary(VOCABULARY))
        draw = random_value(seed, config.init_std)
        materialise(module, lambda name, parameter: draw(name, parameter.shape))
        return module

    return make


@pytest.fixture
def backbone(make_backbone) -> nn.Module:
    return make_backbone(1)


@pytest.fixture
def shared() -> Path:
    """The folder with real data, where there is one."""
    path = Path(os.environ.get("SESAME_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    if not (path / "data" / "glue").is_dir():
        pytest.skip(f"real GLUE files are not at {path}/data/glue; set SESAME_SHARED")
    return path


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A data directory with an SST-2 that is easy: positive sentences are made of z, negative ones of a."""
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
