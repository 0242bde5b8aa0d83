"""Result of one job (task, model, seed), and the key of everything that it depends on."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sesame import configs
from sesame.configs.storage import digest_of
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.tasks.task import score_name
from sesame.pretrain.models.family import ModelConfig

PROCEDURE = 4
"""Version of training and prediction; increased by a change of either, so that earlier results are not reused."""

MODELS: dict[str, Callable[[int], int | None]] = {"pretrained": lambda seed: None, "random": lambda seed: seed}
"""Name -> function from the seed of a run to the seed of random weights; None: the checkpoint's weights."""


def depends_on_seed(data: TaskData, model: str) -> bool:
    """Return whether the outputs of a task and a model, a key of ``MODELS``, differ between seeds."""
    return data.train is not None or model == "random"


def hardware(device: torch.device) -> str:
    """Return the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class Job(NamedTuple):
    """One fine-tuning run, or one scoring of a task without fine-tuning."""

    data: TaskData
    settings: FinetuneConfig
    model: str
    """A key of ``MODELS``."""
    seed: int
    key: str
    """SHA-256 of everything that the outputs for the dev sets depend on."""
    test_key: str
    """The same of the outputs for the test sets."""
    start: "Start | None" = None
    """Fine-tuning on another task before; None: the checkpoint is fine-tuned."""
    keep: Path | None = None
    """Where the fine-tuned weights are kept for jobs that start from this one."""

    @property
    def name(self) -> str:
        """Of the job's files."""
        return f"{self.data.task.name}-{self.model}-{self.seed}-{self.key[:12]}"

    @property
    def initial_seed(self) -> int | None:
        """Of the initial weights; None: the checkpoint's. Those of another task before, if there is one, are its own
        and replaced by what it was trained to."""
        return MODELS[self.model](self.seed if self.start is None else self.start.job.seed)

    @property
    def title(self) -> str:
        seed = f", seed {self.seed}" if depends_on_seed(self.data, self.model) else ""
        return f"{self.data.title}, {self.model}{seed}"


class Start(NamedTuple):
    """The fine-tuning of another task whose model is the start of a job."""

    job: Job
    file: Path
    """Where its weights are kept."""


@dataclass(frozen=True)
class Result:
    """What one job found."""

    task: str
    model: str
    seed: int
    scores: dict[str, float]
    """By metric, as fractions; NaN where undefined or where training diverged."""
    epoch: int
    """Whose weights were scored; 0: without fine-tuning, or diverged."""
    seconds: float
    device: str = ""
    """:func:`hardware`; of an earlier version "cuda" for any GPU; empty if training diverged."""
    outputs: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """float32 [S, C] by dev set; empty if training diverged."""
    error: str = ""
    """Why there are no scores."""
    name: str = ""
    """Of its files in ``results``."""
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    """float32 [steps]: training loss; empty where it was not kept."""
    dev_scores: tuple[float, ...] = ()
    """Mean dev score after each epoch, where the best epoch was selected."""

    def mean(self, names: Sequence[str]) -> float:
        """The mean of some scores, as in GLUE."""
        return sum(self.scores[name] for name in names) / len(names)

    def with_seed(self, seed: int) -> "Result":
        return replace(self, seed=seed)

    @classmethod
    def failed(cls, job: Job, error: str) -> "Result":
        """Return the result of a job whose training diverged."""
        task = job.data.task
        names = [score_name(prefix, metric) for prefix in job.data.dev for metric in task.metrics_of(prefix)]
        scores = dict.fromkeys(names, math.nan)
        return cls(task.name, job.model, job.seed, scores, 0, 0.0, error=error)


class Identity(NamedTuple):
    """What the outputs of a checkpoint depend on."""

    weights: str
    """:func:`fingerprint`."""
    architecture: str
    """The same without the weights, for models with random ones: they are equal for all checkpoints of a run."""

    def of(self, model: str) -> str:
        """Return what the outputs of a key of ``MODELS`` depend on."""
        return self.architecture if model == "random" else self.weights


Values = Callable[[str, Tensor], Iterable[Tensor]]
"""(name, tensor of a backbone) -> its values, in parts along the first dimension."""


def in_memory(name: str, tensor: Tensor) -> Iterable[Tensor]:
    """The values of a tensor that is in memory."""
    return (tensor,)


def identity_of(backbone: nn.Module, tokenizer_path: Path, model: ModelConfig, values: Values = in_memory) -> Identity:
    """Return the identity of a checkpoint."""
    sha256 = hashlib.sha256(tokenizer_path.read_bytes())
    shapes = {name: list(tensor.shape) for name, tensor in sorted(backbone.state_dict().items())}
    sha256.update(json.dumps([configs.dump(model), shapes], sort_keys=True).encode())
    return Identity(fingerprint(backbone, tokenizer_path, model, values), sha256.hexdigest())


def fingerprint(backbone: nn.Module, tokenizer_path: Path, model: ModelConfig, values: Values = in_memory) -> str:
    """SHA-256 of architecture, weights and tokenizer, independent of the folder and format it was loaded from."""
    sha256 = hashlib.sha256(tokenizer_path.read_bytes())
    sha256.update(json.dumps(configs.dump(model), sort_keys=True).encode())
    pooler = {f"pooler.{name}": tensor for name, tensor in getattr(backbone, "pooler", {}).items()}
    projection = getattr(backbone, "decoder_projection", None)
    if projection is not None:
        pooler["decoder_projection"] = projection
    for name, tensor in sorted({**backbone.state_dict(), **pooler}.items()):
        sha256.update(f"{name} {tuple(tensor.shape)}".encode())
        for part in values(name, tensor):
            sha256.update(part.detach().cpu().float().numpy().tobytes())
    return sha256.hexdigest()


def make_job(
    identity: str, data: TaskData, settings: FinetuneConfig, model: str, seed: int, start: Start | None = None
) -> Job:
    """Return the job with its keys; ``identity`` is the checkpoint's :func:`fingerprint`."""
    task = data.task
    inputs: dict[str, Any] = {
        "procedure": PROCEDURE,
        "checkpoint": identity,
        "task": [data.title, task.kind, task.labels, task.score_range],
        "train": data.train.digest if data.train is not None else "",
        "settings": configs.dump(settings),
        "model": model,
        "seed": seed,
    }
    if start is not None:
        inputs["start"] = start.job.key
    # The best epoch is chosen by the metrics on the dev rows that count.
    selection = [task.score_names, _digests(data.counted_dev)] if settings.select == "best" else []
    key = _key({**inputs, "selection": selection, "dev": _digests(data.dev)})
    test_key = _key({**inputs, "selection": selection, "test": _digests(data.test)})
    return Job(data, settings, model, seed, key, test_key, start)


def _key(inputs: dict[str, Any]) -> str:
    return digest_of(json.dumps(inputs, sort_keys=True).encode())


def _digests(sets: dict[str, EncodedExamples]) -> dict[str, str]:
    return {name: examples.digest for name, examples in sets.items()}
