"""What one fine-tuning gave, on disk, and what it depends on."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import configs
from evaluation.config import FinetuneConfig
from evaluation.encoding import EncodedExamples, TaskData

PROCEDURE = 1
"""Raised when the way of training or scoring changes, so that earlier results are computed anew."""

MODELS: dict[str, Callable[[int], int | None]] = {"pretrained": lambda seed: None, "random": lambda seed: seed}
"""Name -> the seed of random weights for a fine-tuning's seed; None: the checkpoint's own weights."""


@dataclass(frozen=True)
class Result:
    """One task, one model, one seed."""

    task: str
    model: str
    seed: int
    scores: dict[str, float]
    """Fractions by metric; NaN where undefined."""
    epoch: int
    seconds: float
    submission: dict[str, str]
    """SHA-256 of each submission file that came with it, by name."""

    @property
    def score(self) -> float:
        """The task's score: the mean of its metrics, as GLUE takes it."""
        return sum(self.scores.values()) / len(self.scores)

    def to_json(self, key: str) -> dict[str, Any]:
        """Plain values; an undefined score becomes null."""
        scores = {name: None if math.isnan(value) else value for name, value in self.scores.items()}
        return {**asdict(self), "scores": scores, "key": key}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Result":
        """The inverse of :meth:`to_json`."""
        scores = {name: math.nan if value is None else value for name, value in values["scores"].items()}
        kept = {name: value for name, value in values.items() if name != "key"}
        return cls(**{**kept, "scores": scores})


def recorded(path: Path, files: dict[str, Path]) -> Result | None:
    """The result at ``path``, if it is there and so is each of the submission files that came with it."""
    if not path.exists():
        return None
    result = Result.from_json(json.loads(path.read_text(encoding="utf-8")))
    whole = all(file.exists() and file_digest(file) == result.submission.get(name) for name, file in files.items())
    return result if whole else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(backbone: nn.Module, tokenizer_path: Path) -> str:
    """SHA-256 of a backbone's weights and its tokenizer: the same for the same model, wherever and however saved."""
    digest = hashlib.sha256(tokenizer_path.read_bytes())
    pooler = {f"pooler.{name}": tensor for name, tensor in getattr(backbone, "pooler", {}).items()}
    for name, tensor in sorted({**backbone.state_dict(), **pooler}.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def key_of(identity: str, data: TaskData, settings: FinetuneConfig, model: str, seed: int) -> str:
    """SHA-256 of everything that a result depends on."""
    what = {
        "procedure": PROCEDURE,
        "checkpoint": identity,
        "task": data.title,
        "train": _digest(data.train),
        "dev": {suffix: _digest(dev) for suffix, dev in data.dev.items()},
        "test": {name: _digest(test) for name, test in data.test.items()},
        "settings": configs.dump(settings),
        "model": model,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _digest(examples: EncodedExamples) -> str:
    digest = hashlib.sha256(np.concatenate(examples.tokens).tobytes())
    digest.update(examples.lengths.tobytes())
    digest.update(examples.labels.tobytes())
    return digest.hexdigest()
