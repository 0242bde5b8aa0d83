"""Checkpoints that know nothing of the layout that wrote them: tensors by name and whole shape, as safetensors.

    OUTPUT/checkpoints/step-00001000/
        checkpoint.json                 format, step, samples, seed, resolved config, and every file with its SHA-256
        tokenizer.model                 the tokenizer that made the dataset
        weights-00000-000.safetensors   fp32 master weights; each process writes its share, in files of about a gigabyte
        exp_avg-00000-000.safetensors   one set of files for each moment of the optimizer

A tensor of which nobody should have more than some rows in memory is stored in pieces (``stored.py``).

A checkpoint is written aside and renamed, so that one that can be seen is complete. The position in the data and the
random states are functions of seed and step (``batches.py``, ``train.py``), so these two numbers are all they need.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

import configs
from configs import Section
from configs.errors import CheckpointError
from pretrain.initial import Rows, materialise, random_value
from pretrain.models import FAMILIES
from pretrain.models.family import Vocabulary
from pretrain.stored import Slab, Stored, shares

FORMAT_VERSION = 1
WEIGHTS = "weights-00000-000.safetensors"
POOLER = "objectives.sentence_pairs.pooler"
"""Of the head for pairs of sentences, which later stages use as well."""


class CheckpointConfig(Section):
    """How often to save and how many to keep."""

    save_every_steps: int = Field(default=1000, gt=0)
    """Optimizer steps between checkpoints; the last step is always saved."""
    keep: int = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""


class Record(Section):
    """What ``checkpoint.json`` holds."""

    format_version: int
    step: int
    """Optimizer steps taken."""
    samples: int
    """Sequences consumed: the position in the data."""
    seed: int
    """With ``step`` it determines every later random draw."""
    vocabulary_size: int
    tokenizer_sha256: str
    config: dict[str, Any]
    """The resolved run."""
    shapes: dict[str, tuple[int, ...]]
    """Whole shape of every parameter."""
    files: dict[str, str]
    """SHA-256 of every file, by name."""


class StateOwner(Protocol):
    """What a checkpoint asks of the engine: rows of tensors by name; the key None is the master weights."""

    def state(self, key: str | None) -> Iterable[Slab]: ...
    def set_state(self, key: str | None, name: str, whole: Rows) -> None: ...
    def set_steps(self, steps: int) -> None: ...


class Process(NamedTuple):
    """Which of the writing processes this is, and how they meet."""

    rank: int
    world: int
    gather: Callable[[Any], list[Any]]
    """A collective: every process's value, in order of rank."""


ALONE = Process(0, 1, lambda value: [value])


def save(
    output: Path, owner: StateOwner, moments: tuple[str, ...], process: Process, tokenizer: Path, facts: dict[str, Any]
) -> Path:
    """Write a checkpoint of ``owner``; ``facts`` are the fields of :class:`Record` that only the run knows."""
    final = output / "checkpoints" / f"step-{facts['step']:08d}"
    partial = final.with_suffix(".partial")
    if process.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        shutil.copyfile(tokenizer, partial / "tokenizer.model")
    process.gather(None)
    written = {}
    for key in (None, *moments):
        for number, tensors in enumerate(shares(owner.state(key), facts["shapes"])):
            file = partial / f"{key or 'weights'}-{process.rank:05d}-{number:03d}.safetensors"
            save_file(tensors, file)
            written[file.name] = _durable_digest(file)
    files = {name: digest for part in process.gather(written) for name, digest in part.items()}
    if process.rank == 0:
        files["tokenizer.model"] = _durable_digest(partial / "tokenizer.model")
        record = Record(format_version=FORMAT_VERSION, files=files, **facts)
        (partial / "checkpoint.json").write_text(json.dumps(configs.dump(record), indent=1), encoding="utf-8")
        _durable_digest(partial / "checkpoint.json")
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync_folder(final.parent)
    process.gather(None)
    return final


def write_weights(folder: Path, weights: dict[str, Tensor], tokenizer: bytes, facts: dict[str, Any]) -> None:
    """Write a checkpoint without moments of an optimizer into a new ``folder``; ``facts`` as in :func:`save`."""
    (folder / "tokenizer.model").write_bytes(tokenizer)
    save_file(weights, folder / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    files = {name: _durable_digest(folder / name) for name in ("tokenizer.model", WEIGHTS)}
    record = Record(format_version=FORMAT_VERSION, shapes=shapes, files=files, **facts)
    (folder / "checkpoint.json").write_text(json.dumps(configs.dump(record), indent=1), encoding="utf-8")


def prune(output: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints, and what an interrupted save left."""
    folder = output / "checkpoints"
    for partial in folder.glob("step-*.partial"):
        shutil.rmtree(partial)
    for old in sorted(folder.glob("step-????????"))[:-keep]:
        shutil.rmtree(old)


def latest(path: Path, process: Process = ALONE) -> Path | None:
    """The newest complete checkpoint in a run's folder; ``path`` itself when it is a checkpoint. Each ``process`` is
    told what the first one sees, which makes it a collective."""
    found = [path] if (path / "checkpoint.json").is_file() else sorted((path / "checkpoints").glob("step-????????"))
    # A file system may show a new folder to one process earlier than to another.
    return process.gather(found[-1] if found else None)[0]


def read(folder: Path, process: Process = ALONE) -> Record:
    """Read and check a checkpoint's record and the checksum of every file; each ``process`` checks its share of them,
    which makes it a collective.

    Raises:
        CheckpointError: a file is missing, damaged, or of another format.
    """
    record, faults = _record(folder)
    if record is not None:
        share = sorted(record.files)[process.rank :: process.world]
        faults = [fault for name in share if (fault := _fault(folder / name, record.files[name]))]
    # Who has found something tells the others, who would wait for it.
    told = [fault for found in process.gather(faults) for fault in found]
    if record is None or told:
        raise CheckpointError(told[0])
    return record


def _record(folder: Path) -> tuple[Record | None, list[str]]:
    """What ``checkpoint.json`` says, or what is wrong with it."""
    file = folder / "checkpoint.json"
    try:
        return configs.parse(json.loads(file.read_text(encoding="utf-8")), Record, str(file)), []
    except configs.ConfigError as error:
        return None, [str(error)]
    except (OSError, ValueError) as error:
        return None, [f"{file}: cannot be read ({error}); use another checkpoint"]


def _fault(file: Path, digest: str) -> str | None:
    try:
        same = _digest(file) == digest
    except FileNotFoundError:
        return f"{file}: is missing; use another checkpoint"
    except OSError as error:
        return f"{file}: cannot be read ({error}); use another checkpoint"
    return None if same else f"{file}: differs from its checksum; use another checkpoint"


def restore(folder: Path, record: Record, owner: StateOwner, moments: tuple[str, ...], shapes: dict[str, Any]) -> None:
    """Write a checkpoint's state into ``owner``, whose parameters have the whole ``shapes``.

    Raises:
        CheckpointError: the checkpoint is of a model of another shape or of another optimizer.
    """
    check_shapes(folder, record, shapes)
    owner.set_steps(record.step)
    for key in (None, *moments):
        kept = stored(folder, record, key or "weights")
        for name in shapes:
            owner.set_state(key, name, kept.rows(name))


def check_shapes(
    folder: Path, record: Record, shapes: dict[str, Any], otherwise: str = "choose another output folder"
) -> None:
    """Raise a CheckpointError that names the first parameter in which a checkpoint and a model differ.

    Args:
        otherwise: the way out if the model is as it should be.
    """
    for name in {**record.shapes, **shapes}:
        here, there = shapes.get(name), record.shapes.get(name)
        if here is None or there is None or tuple(here) != tuple(there):
            raise CheckpointError(
                f"{folder}: parameter {name} is {_shape(there)} in the checkpoint but {_shape(here)} in this run; give "
                f"the run the [model] and [objectives] of the checkpoint, or {otherwise}"
            )


def stored(folder: Path, record: Record, kind: str) -> Stored:
    """The tensors of a checkpoint: "weights", or a moment of the optimizer.

    Raises:
        CheckpointError: there are none of this kind, or they are no safetensors.
    """
    files = [name for name in sorted(record.files) if name.startswith(f"{kind}-")]
    if not files:
        raise CheckpointError(f"{folder}: has no '{kind}'; it was written with another optimizer")
    return Stored(folder, files, record.shapes)


class Loaded(NamedTuple):
    """A backbone for whoever comes after pretraining."""

    backbone: Any
    """Module of the family, fp32, on the CPU, in evaluation mode, with its pretrained ``pooler``."""
    tokenizer_path: Path
    model: Any
    """Its configuration."""
    step: int
    """Optimizer steps it was trained for; 0 when its weights are random."""


def load_backbone(path: Path, *, seed: int | None = None) -> Loaded:
    """The backbone of a run's newest checkpoint, or with ``seed`` the same architecture from random weights.

    Raises:
        CheckpointError: ``path`` holds no complete checkpoint.
    """
    folder = latest(Path(path))
    if folder is None:
        raise CheckpointError(f"{path}: holds no checkpoint; give a folder that `sesame pretrain` wrote")
    record = read(folder)
    values = record.config["model"]
    family = FAMILIES[values["family"]]
    model = configs.parse(values, family.config, str(folder / "checkpoint.json"))
    with torch.device("meta"):
        backbone: Any = family.module(model, Vocabulary(record.vocabulary_size, folder / "tokenizer.model"))
    names = {f"backbone.{name}": tuple(value.shape) for name, value in backbone.named_parameters()}
    check_shapes(folder, record.model_copy(update={"shapes": {name: record.shapes.get(name) for name in names}}), names)
    trained, draw = stored(folder, record, "weights"), random_value(seed or 0, model.deviation)
    materialise(
        backbone,
        lambda name, parameter: (
            trained.whole(f"backbone.{name}") if seed is None else draw(f"backbone.{name}", parameter.shape)
        ),
    )
    if seed is None:
        names = {ending: f"{POOLER}.{ending}" for ending in ("weight", "bias")}
        backbone.pooler = {ending: trained.whole(name) for ending, name in names.items() if name in record.shapes}
    return Loaded(backbone.eval(), folder / "tokenizer.model", model, record.step if seed is None else 0)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _durable_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _digest(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
