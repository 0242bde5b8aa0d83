"""Training that begins with the weights of a checkpoint instead of random ones; step and optimizer state are new."""

from pathlib import Path
from typing import Any, NamedTuple

import configs
from configs.errors import CheckpointError
from pretrain.checkpoints import checkpoint
from pretrain.models.family import ModelConfig

WITHOUT_SHAPE_OR_MEANING = {"dropout", "attention_dropout", "initial_std", "vocabulary_multiple"}
"""Fields of a model that may differ without a word: the weights mean the same."""


class InitialCheckpoint(NamedTuple):
    """A checkpoint that fits the run."""

    folder: Path
    record: checkpoint.Record
    said: str
    """What of the run is not from the checkpoint, for people."""


def beginning(
    path: Path, tokenizer_sha256: str, model: ModelConfig, shapes: dict[str, Any], process: checkpoint.Process
) -> InitialCheckpoint:
    """Check the checkpoint at ``path`` against a run whose parameters have the whole ``shapes``; a collective.

    Raises:
        CheckpointError: there is none, or its tokenizer or the shape of a parameter is another one.
    """
    folder = checkpoint.latest(path, process)
    if folder is None:
        raise CheckpointError(
            f"{path}: holds no checkpoint; initial_checkpoint is a folder of `sesame pretrain` or `sesame import`"
        )
    record = checkpoint.read(folder, process)
    if record.tokenizer_sha256 != tokenizer_sha256:
        raise CheckpointError(
            f"{folder}: has another tokenizer than the dataset; prepare the corpus with --set "
            f"tokenizer.model={folder / 'tokenizer.model'}, or leave initial_checkpoint out"
        )
    both = {name: shape for name, shape in record.shapes.items() if name.startswith("backbone.") or name in shapes}
    needed = {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in both}
    checkpoint.check_shapes(
        folder, record.model_copy(update={"shapes": both}), needed, "begin with another initial_checkpoint"
    )
    return InitialCheckpoint(folder, record, _said(folder, record, model, shapes))


def _said(folder: Path, record: checkpoint.Record, model: ModelConfig, shapes: dict[str, Any]) -> str:
    new = [name for name in shapes if name not in record.shapes]
    here = configs.dump(model)
    # A checkpoint from before a field was there has what is usual.
    there = {name: field.default for name, field in type(model).model_fields.items()} | record.config["model"]
    changed = [
        f"{name} {there[name]} -> {value}"
        for name, value in here.items()
        if name not in WITHOUT_SHAPE_OR_MEANING and value != there[name]
    ]
    text = f"beginning with the weights of {folder} (step {record.step})"
    if new:
        text += f"; not in it, so new: {', '.join(new)}"
    if changed:
        text += f"; other settings than its model: {', '.join(changed)}"
    return text
