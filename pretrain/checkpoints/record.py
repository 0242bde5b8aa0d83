"""``checkpoint.json``: what a checkpoint contains, with a checksum of every file and of itself."""

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import CheckpointError, ConfigError
from sesame.configs.storage import digest_of
from sesame.configs.strict_json import read_json_object
from sesame.pretrain.checkpoints.stored import Shapes

FORMAT_VERSION = 2
"""Format 1 had no checksum of its own and no dataset."""
FILE = "checkpoint.json"
TOKENIZER_FILE = "tokenizer.model"

Size = Annotated[int, Field(gt=0, le=2**40)]


class Change(Section):
    """A setting that was changed when a run was resumed."""

    step: int
    """Optimizer steps taken before the change."""
    key: str
    before: Any
    after: Any


class Watched(Section):
    """What `[watch]` has seen and done up to a checkpoint, so that a resumed run does the same from there."""

    skipped_samples: tuple[tuple[int, int], ...] = ()
    """Positions that roll-backs have skipped, counted as ``samples``: from the first number up to, without, the
    second."""
    skipped_updates: int = Field(default=0, ge=0)
    """Steps whose update was not applied."""
    losses: tuple[float, ...] = ()
    """Of the last steps, which the next ones are compared with, the oldest first."""
    gradient_norms: tuple[float, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    """Of the objectives in the last of these losses; empty in older checkpoints."""


class StagePosition(Section):
    """What is consumed of one of several datasets."""

    dataset_sha256: str
    samples: int = Field(ge=0, le=2**62)


class LossScaleState(Section):
    """The loss scale of a run in fp16 (``pretrain/parallel/loss_scale.py``)."""

    scale: float = Field(gt=0, allow_inf_nan=False)
    steps: int = Field(default=0, ge=0)
    """That the scale was decided in."""
    last_overflow: int = -1
    """Of those, the last in which a gradient overflowed; -1: none."""
    skipped_updates: int = Field(default=0, ge=0)
    """Steps of the run without an update, because a gradient overflowed."""
    skipped_in_a_row: int = Field(default=0, ge=0)
    """The last of them."""
    gradient_norm: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Before clipping, of the last step with an update; 0 in older checkpoints."""


class AdaptiveMaskingState(Section):
    """``pretrain/adaptive_masking.py``; arrays over the vocabulary, as base64 of zlib of little-endian numbers."""

    weights: str
    """float32."""
    losses: str
    """int64, sums of the steps since the weights were last updated, in 2^-16 nats."""
    counts: str
    """int64, predictions in these steps."""


class CheckpointMetadata(Section):
    """State and configuration of the run that a checkpoint was written by."""

    step: int = Field(ge=0, le=2**62)
    """Optimizer steps taken."""
    samples: int = Field(ge=0, le=2**62)
    """Sequences consumed, of all datasets of the run."""
    dataset_sha256: str | None = None
    """``resume.fingerprint`` of the dataset; None in checkpoints of format 1."""
    dataset_first_sample: int = Field(default=0, ge=0)
    """``samples`` when training on this dataset started; the position in the dataset is counted from there."""
    stages: tuple[StagePosition, ...] = ()
    """Of ``data.dataset`` and ``data.stages``, where the data follows schedules."""
    seconds: float = Field(default=0.0, ge=0)
    """Training time, which ``stop.minutes`` limits; 0 without that limit."""
    first_timed_step: int = Field(default=0, ge=0)
    """Optimizer step from which on ``seconds`` were counted."""
    seed: int
    """With ``step`` it determines every later random number."""
    vocabulary_size: Size
    tokenizer_sha256: str
    config: dict[str, Any]
    """The resolved configuration."""
    watched: Watched = Watched()
    processes: int = Field(default=0, ge=0)
    """Processes of the run; 0 in older checkpoints."""
    loss_scale: LossScaleState | None = None
    """In fp16 only."""
    adaptive_masking: AdaptiveMaskingState | None = None
    """With ``data.adaptive_masking_every`` only."""
    changes: tuple[Change, ...] = ()
    """Settings changed whenever the run was resumed, in order; ``config`` has the last values."""

    @model_validator(mode="after")
    def _dataset_starts_within_samples(self) -> "CheckpointMetadata":
        if self.dataset_first_sample > self.samples:
            raise ValueError(f"dataset_first_sample {self.dataset_first_sample} is after samples {self.samples}")
        return self

    @model_validator(mode="after")
    def _some_steps_were_applied(self) -> "CheckpointMetadata":
        if self.watched.skipped_updates > self.step:
            raise ValueError(f"skipped_updates {self.watched.skipped_updates} is more than step {self.step}")
        return self

    @property
    def updates(self) -> int:
        """How often the weights were updated."""
        overflows = self.loss_scale.skipped_updates if self.loss_scale else 0
        return max(0, self.step - self.watched.skipped_updates - overflows)

    @field_validator("config")
    @classmethod
    def _has_a_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("model"), Mapping):
            raise ValueError("has no [model]")
        return value


class Record(CheckpointMetadata):
    """Content of ``checkpoint.json``."""

    format_version: int
    shapes: dict[str, Annotated[tuple[Size, ...], Field(min_length=1)]]
    """Whole shape of every parameter."""
    files: dict[str, str]
    """SHA-256 of every file, by name."""
    record_sha256: str = ""
    """SHA-256 of this file without this entry; absent in format 1."""

    @field_validator("files")
    @classmethod
    def _names_stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in (*value, TOKENIZER_FILE):
            if name not in value:
                raise ValueError(f"lacks {name}")
            if not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
                raise ValueError(f"{name!r} is not a file name inside the checkpoint")
        return value


def write(folder: Path, metadata: CheckpointMetadata, shapes: Shapes, files: Mapping[str, str]) -> Path:
    """Write ``checkpoint.json`` into ``folder`` and return its path.

    Args:
        files: SHA-256 of every file, by name.
    """
    record = Record(
        format_version=FORMAT_VERSION,
        **dict(metadata),
        shapes={name: tuple(shape) for name, shape in shapes.items()},
        files=dict(files),
    )
    values = {"format_version": FORMAT_VERSION, **configs.dump(record)}
    values["record_sha256"] = _record_digest(values)
    path = folder / FILE
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def read(folder: Path) -> Record:
    """Read and check the record of the checkpoint ``folder``, but not the files that it names.

    Raises:
        CheckpointError: the record is missing, damaged, or of a later format.
    """
    file = folder / FILE
    values = read_json_object(file, CheckpointError, "use another checkpoint")
    version = values.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: has format {version}, but this Sesame reads formats up to {FORMAT_VERSION}; use a later one"
        )
    try:
        stated = values.get("record_sha256")
        if (stated or version != 1) and stated != _record_digest(values):
            raise CheckpointError(f"{file}: differs from its own checksum; use another checkpoint")
        return configs.parse(values, Record, str(file))
    except RecursionError:
        raise CheckpointError(f"{file}: is nested too deeply; use another checkpoint") from None
    except ConfigError as error:
        raise CheckpointError(f"{error}; use another checkpoint") from None


def require_regular(file: Path) -> None:
    """Raise an OSError unless ``file`` is a regular file: a device or a pipe may have no end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("not a regular file")


def _record_digest(values: Mapping[str, Any]) -> str:
    content = {name: value for name, value in values.items() if name != "record_sha256"}
    return digest_of(json.dumps(content, sort_keys=True).encode())
