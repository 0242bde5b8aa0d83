"""Result of one fine-tuning run, its JSON file, and the key of everything that it depends on."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sesame import configs
from sesame.configs.storage import digest, digest_of
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.encoding import EncodedExamples, TaskData

PROCEDURE = 1
"""Version of training and scoring; increased by a change of either, so that earlier results are not reused."""

MODELS: dict[str, Callable[[int], int | None]] = {"pretrained": lambda seed: None, "random": lambda seed: seed}
"""Name -> function from the seed of a run to the seed of random weights; None: the checkpoint's weights."""


@dataclass(frozen=True)
class Result:
    """One task, one model, one seed."""

    task: str
    model: str
    seed: int
    scores: dict[str, float]
    """By metric, as fractions; NaN where undefined."""
    epoch: int
    seconds: float
    submission: dict[str, str]
    """SHA-256 of each submission file of this run, by name."""

    @property
    def score(self) -> float:
        """The task's score: the mean of its metrics, as in GLUE."""
        return sum(self.scores.values()) / len(self.scores)

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain JSON values; an undefined score becomes null."""
        scores = {name: None if math.isnan(value) else value for name, value in self.scores.items()}
        return {**asdict(self), "scores": scores, "key": key}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Result":
        """The inverse of :meth:`to_json`."""
        scores = {name: math.nan if value is None else value for name, value in values["scores"].items()}
        kept = {name: value for name, value in values.items() if name != "key"}
        return cls(**{**kept, "scores": scores})


def read_result(path: Path, files: dict[str, Path]) -> Result | None:
    """Read the result at ``path``; None if it, or one of its submission ``files``, is missing or has changed."""
    if not path.exists():
        return None
    result = Result.from_json(json.loads(path.read_text(encoding="utf-8")))
    unchanged = all(file.exists() and digest(file) == result.submission.get(name) for name, file in files.items())
    return result if unchanged else None


def fingerprint(backbone: nn.Module, tokenizer_path: Path) -> str:
    """SHA-256 of a backbone's weights and its tokenizer, independent of the folder and format it was loaded from."""
    sha256 = hashlib.sha256(tokenizer_path.read_bytes())
    pooler = {f"pooler.{name}": tensor for name, tensor in getattr(backbone, "pooler", {}).items()}
    for name, tensor in sorted({**backbone.state_dict(), **pooler}.items()):
        sha256.update(name.encode())
        sha256.update(tensor.detach().cpu().float().numpy().tobytes())
    return sha256.hexdigest()


def key_of(identity: str, data: TaskData, settings: FinetuneConfig, model: str, seed: int) -> str:
    """SHA-256 of everything that a result depends on."""
    inputs = {
        "procedure": PROCEDURE,
        "checkpoint": identity,
        "task": data.title,
        "train": _examples_digest(data.train),
        "dev": {prefix: _examples_digest(dev) for prefix, dev in data.dev.items()},
        "test": {name: _examples_digest(test) for name, test in data.test.items()},
        "settings": configs.dump(settings),
        "model": model,
        "seed": seed,
    }
    return digest_of(json.dumps(inputs, sort_keys=True).encode())


def _examples_digest(examples: EncodedExamples) -> str:
    sha256 = hashlib.sha256(np.concatenate(examples.tokens).tobytes())
    sha256.update(examples.lengths.tobytes())
    sha256.update(examples.labels.tobytes())
    return sha256.hexdigest()
