"""``checkpoint.json``: what a checkpoint holds, with a checksum for every file and for itself."""

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

import configs
from configs import Section
from configs.errors import CheckpointError, ConfigError

FORMAT_VERSION = 2
"""1 had no checksum of its own and no dataset."""
FILE = "checkpoint.json"
LARGEST_FILE = 2**26
"""Bytes; what is longer was not written by a training run."""
WAY_OUT = "use another checkpoint"

Size = Annotated[int, Field(gt=0, le=2**40)]


class Change(Section):
    """A setting that was changed when a run went on from a checkpoint."""

    step: int
    """Optimizer steps taken until then."""
    key: str
    before: Any
    after: Any


class Record(Section):
    """What ``checkpoint.json`` holds."""

    format_version: int
    step: int = Field(ge=0, le=2**62)
    """Optimizer steps taken."""
    samples: int = Field(ge=0, le=2**62)
    """Sequences consumed in all."""
    dataset_sha256: str | None = None
    """``resume.fingerprint`` of the dataset; None in checkpoints of format 1."""
    dataset_first_sample: int = Field(default=0, ge=0)
    """``samples`` when training on this dataset began: the position in its order is counted from there."""
    seconds: float = Field(default=0.0, ge=0)
    """Of training, which ``stop.minutes`` limits; 0 where it is not set."""
    first_timed_step: int = Field(default=0, ge=0)
    """Optimizer step from which on ``seconds`` were counted."""
    seed: int
    """With ``step`` it determines every later random draw."""
    vocabulary_size: Size
    tokenizer_sha256: str
    config: dict[str, Any]
    """The resolved run."""
    changes: tuple[Change, ...] = ()
    """What was changed whenever the run went on, in order; ``config`` is the last state."""
    shapes: dict[str, Annotated[tuple[Size, ...], Field(min_length=1)]]
    """Whole shape of every parameter."""
    files: dict[str, str]
    """SHA-256 of every file, by name."""
    record_sha256: str = ""
    """Of this file without this entry; absent in format 1."""

    @model_validator(mode="after")
    def _samples_are_counted_on(self) -> "Record":
        if self.dataset_first_sample > self.samples:
            raise ValueError(f"dataset_first_sample {self.dataset_first_sample} is after samples {self.samples}")
        return self

    @field_validator("config")
    @classmethod
    def _has_a_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("model"), Mapping):
            raise ValueError("has no [model]")
        return value

    @field_validator("files")
    @classmethod
    def _names_stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in (*value, "tokenizer.model"):
            if name not in value:
                raise ValueError(f"lacks {name}")
            if not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
                raise ValueError(f"{name!r} is no name of a file inside of the checkpoint")
        return value


def write(folder: Path, **facts: Any) -> Path:
    """Write the record with these fields into ``folder``; its path."""
    record = Record(format_version=FORMAT_VERSION, **facts)
    values = configs.dump(record)
    values["record_sha256"] = _digest(values)
    path = folder / FILE
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def read(folder: Path) -> Record:
    """Read and check the record of the checkpoint ``folder``, not the files that it names.

    Raises:
        CheckpointError: it is missing, damaged, or of a later format.
    """
    file = folder / FILE
    try:
        require_regular(file)
        if file.stat().st_size > LARGEST_FILE:
            raise ValueError(f"has more than {LARGEST_FILE:,} bytes")
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(values, dict):
            raise ValueError("is no JSON object")
        version = values.get("format_version")
        if type(version) is int and version > FORMAT_VERSION:
            raise CheckpointError(
                f"{file}: has format {version}, but this Sesame reads formats up to {FORMAT_VERSION}; use a later one"
            )
        stated = values.get("record_sha256")
        if (stated or version != 1) and stated != _digest(values):
            raise CheckpointError(f"{file}: differs from its own checksum; {WAY_OUT}")
        return configs.parse(values, Record, str(file))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); {WAY_OUT}") from None
    except ConfigError as error:
        raise CheckpointError(f"{error}; {WAY_OUT}") from None


def require_regular(file: Path) -> None:
    """Raise an OSError if ``file`` is something that cannot be read to an end, such as a device."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("not a regular file")


def _digest(values: Mapping[str, Any]) -> str:
    content = {name: value for name, value in values.items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
