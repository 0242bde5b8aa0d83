"""Weights of a run that starts at step 0: random values, or those of an initial checkpoint; optimizer state is new."""

from pathlib import Path
from typing import NamedTuple

import torch

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints import load
from sesame.pretrain.checkpoints.load import Checkpoint, Process
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE
from sesame.pretrain.checkpoints.save import StateOwner
from sesame.pretrain.checkpoints.stored import Shapes
from sesame.pretrain.initialization import random_rows
from sesame.pretrain.models.family import ModelConfig

WITHOUT_SHAPE_OR_MEANING = {"dropout", "attention_dropout", "initial_std", "vocabulary_multiple"}
"""Fields of a model that may differ without a message: the weights mean the same."""


class InitialCheckpoint(NamedTuple):
    """A checkpoint that fits the run."""

    checkpoint: Checkpoint
    message: str
    """Which parameters and settings of the run are not those of the checkpoint."""


def initialize(
    owner: StateOwner, shapes: Shapes, seed: int, model: ModelConfig, initial: InitialCheckpoint | None
) -> None:
    """Set the weights of ``owner``, which are the same in every layout.

    Args:
        shapes: whole shape of every parameter.
        initial: where the weights come from; those that it lacks, or all of them without it, are random.
    """
    weights = initial.checkpoint.tensors("weights") if initial else None
    for name, shape in shapes.items():
        if weights is not None and name in weights.shapes:
            owner.set_state(None, name, weights.rows(name))
        else:
            owner.set_state(None, name, random_rows(seed, name, torch.Size(shape), model.init_std))


def open_initial_checkpoint(
    path: Path | None, tokenizer_sha256: str, model: ModelConfig, shapes: Shapes, process: Process
) -> InitialCheckpoint | None:
    """Check the checkpoint at ``path`` against a run whose parameters have the whole ``shapes``; a collective.

    Returns:
        The checkpoint, None without a ``path``.

    Raises:
        CheckpointError: there is none, or its tokenizer or the shape of a parameter differs.
    """
    if path is None:
        return None
    advice = "initial_checkpoint is a folder of `sesame pretrain` or `sesame import`"
    folder = load.require_latest(path, process, advice)
    checkpoint = load.open_checkpoint(folder, process, kinds=load.WEIGHTS_ONLY)
    if checkpoint.record.tokenizer_sha256 != tokenizer_sha256:
        raise CheckpointError(
            f"{folder}: has another tokenizer than the dataset; prepare the corpus with --set "
            f"tokenizer.model={folder / TOKENIZER_FILE}, or remove initial_checkpoint"
        )
    # Heads may be missing on either side, the backbone must be the same.
    stored = {
        name: shape
        for name, shape in checkpoint.record.shapes.items()
        if name.startswith("backbone.") or name in shapes
    }
    expected = {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in stored}
    load.check_shapes(folder, stored, expected, "choose another initial_checkpoint")
    return InitialCheckpoint(checkpoint, _message(checkpoint, model, shapes))


def _message(checkpoint: Checkpoint, model: ModelConfig, shapes: Shapes) -> str:
    record = checkpoint.record
    # A checkpoint that is older than a field has its default.
    defaults = {name: field.default for name, field in type(model).model_fields.items()}
    before = defaults | record.config["model"]
    new = [name for name in shapes if name not in record.shapes]
    changed = [
        f"{name} {before[name]} -> {value}"
        for name, value in configs.dump(model).items()
        if name not in WITHOUT_SHAPE_OR_MEANING and value != before[name]
    ]
    text = f"starting from the weights of {checkpoint.folder} (step {record.step})"
    if new:
        text += f"; new, because it lacks them: {', '.join(new)}"
    if changed:
        text += f"; model settings that differ: {', '.join(changed)}"
    return text
