"""Checkpoints that know nothing of the layout that wrote them: tensors by name and whole shape, as safetensors.

    OUTPUT/checkpoints/step-00001000/
        checkpoint.json                 format, step, samples, seed, resolved config, and every file with its SHA-256
        tokenizer.model                 the tokenizer that made the dataset
        weights-00000-000.safetensors   fp32 master weights; each process writes its share, in files of about a gigabyte
        exp_avg-00000-000.safetensors   one set of files for each moment of the optimizer

A tensor of which nobody should have more than some rows in memory is stored in pieces (``stored.py``).

A checkpoint is written aside and renamed (``saving.py``), so that one that can be seen is complete. The order of the
data and the random states are functions of seed, samples and step (``batches.py``, ``train.py``), so these numbers are
all that they need. ``record.py`` is ``checkpoint.json``, ``retention.py`` says which checkpoints are removed.
"""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

import configs
from configs import Section
from configs.errors import CheckpointError, ConfigError
from configs.kinds import Free
from pretrain.checkpoints import record as records
from pretrain.checkpoints import retention
from pretrain.checkpoints.record import Record
from pretrain.checkpoints.save import ALONE, DIVERGED, Process, StateOwner, digest, save, write_weights
from pretrain.checkpoints.stored import Stored
from pretrain.initialization import materialise, random_value
from pretrain.models import FAMILIES
from pretrain.models.family import ModelConfig, Vocabulary, on_meta_device

__all__ = ["ALONE", "DIVERGED", "Process", "Record", "StateOwner", "save", "write_weights"]
"""What other rooms find here too."""

POOLER = "objectives.sentence_pairs.pooler"
"""Of the head for pairs of sentences, which later stages use as well."""


class CheckpointConfig(Section):
    """How often to save and how many to keep."""

    save_every_steps: Free[int] = Field(default=1000, gt=0)
    """Optimizer steps between checkpoints; the last step is always saved."""
    keep: Free[int] = Field(default=2, gt=0)
    """Newest checkpoints that are kept."""


def latest(path: Path, process: Process = ALONE) -> Path | None:
    """The newest complete checkpoint in a run's folder; ``path`` itself when it is a checkpoint. Each ``process`` is
    told what the first one sees, which makes it a collective."""
    found = path if (path / records.FILE).is_file() else retention.newest(path)
    # A file system may show a new folder to one process earlier than to another.
    return process.gather(found)[0]


def read(folder: Path, process: Process = ALONE) -> Record:
    """Read and check a checkpoint's record and the checksum of every file; each ``process`` checks its share of them,
    which makes it a collective.

    Raises:
        CheckpointError: a file is missing, damaged, or of another format.
    """
    record, faults = None, []
    try:
        record = records.read(folder)
        share = sorted(record.files)[process.rank :: process.world]
        faults = [fault for name in share if (fault := _fault(folder / name, record.files[name]))]
    except CheckpointError as error:
        faults = [str(error)]
    # Who has found something tells the others, who would wait for it.
    told = [fault for found in process.gather(faults) for fault in found]
    if record is None or told:
        raise CheckpointError(told[0])
    return record


def _fault(file: Path, stated: str) -> str | None:
    try:
        records.require_regular(file)
        same = digest(file) == stated
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


def model_config(folder: Path, record: Record) -> ModelConfig:
    """The model of a checkpoint.

    Raises:
        CheckpointError: its settings are none of a family.
    """
    values, file = record.config["model"], folder / records.FILE
    family = values.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(f"{file}: the model's family is {family!r}; the families are {', '.join(FAMILIES)}")
    try:
        return configs.parse(values, FAMILIES[family].config, str(file))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


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
    model = model_config(folder, record)
    family = FAMILIES[model.family]
    try:
        with on_meta_device():
            backbone: Any = family.module(model, Vocabulary(record.vocabulary_size, folder / "tokenizer.model"))
    except ConfigError as error:
        raise CheckpointError(f"{folder / records.FILE}: {error}") from None
    names = {f"backbone.{name}": tuple(value.shape) for name, value in backbone.named_parameters()}
    backbones = {name: shape for name, shape in record.shapes.items() if name.startswith("backbone.")}
    check_shapes(folder, record.model_copy(update={"shapes": backbones}), names)
    trained, draw = stored(folder, record, "weights"), random_value(seed or 0, model.init_std)
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
