"""``sesame export``: a checkpoint as a folder that transformers loads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from configs.errors import CheckpointError, ConversionError
from data_pipeline.tokenizers.huggingface import write_tokenizer
from pretrain.checkpoints.load import Checkpoint, latest, open_checkpoint
from pretrain.huggingface import COUNTERPARTS, WITHOUT_COUNTERPART
from pretrain.huggingface.aside import sentences, written_aside
from pretrain.huggingface.config_values import chosen, there
from pretrain.huggingface.conversion import Counterpart, Row
from pretrain.huggingface.model_folder import WHOLE
from pretrain.huggingface.weights import Shape, exported, taken
from pretrain.models.family import ModelConfig

EMBEDDING = "backbone.token_embedding.weight"


class Exported(NamedTuple):
    """What was written."""

    folder: Path
    architecture: str
    """Class of transformers that loads it."""
    notes: tuple[str, ...]
    """What is different there."""


def export(path: Path, folder: Path) -> Exported:
    """Write a run's newest checkpoint to ``folder`` as ``config.json``, safetensors and tokenizer files.

    Raises:
        CheckpointError: ``path`` holds no complete checkpoint.
        ConversionError: transformers has no class for the model, or ``folder`` holds something.
    """
    with sentences(path, "read"):
        source = latest(path)
    if source is None:
        raise CheckpointError(f"{path}: holds no checkpoint; give a folder that `sesame pretrain` wrote")
    checkpoint = open_checkpoint(source)
    shapes = checkpoint.record.shapes
    config, counterparts = _model(checkpoint)
    counterpart = chosen(counterparts, config)
    with written_aside(folder) as partial:
        longest, segments = getattr(config, "positions", None), getattr(config, "segments", 2)
        special = write_tokenizer(source / "tokenizer.model", partial, counterpart.model_type, longest, segments)
        config, changes = counterpart.fitted(config, special)
        found = _class(counterpart, shapes)
        stored = checkpoint.tensors("weights")
        tensors = exported(
            found.rows, found.shapes, lambda name: changes.get(name, lambda value: value)(stored.whole(name))
        )
        if found.architecture == counterpart.bare:
            tensors = {name.removeprefix(counterpart.prefix): tensor for name, tensor in tensors.items()}
        save_file(tensors, partial / WHOLE, metadata={"format": "pt"})
        values = {
            "architectures": [found.architecture],
            **there(counterpart, config, shapes[EMBEDDING][0]),
            **special,
        }
        _write(partial / "config.json", values)
    return Exported(folder, found.architecture, (*counterpart.notes(config), *found.notes))


def _model(checkpoint: Checkpoint) -> tuple[ModelConfig, tuple[Counterpart, ...]]:
    model, source = checkpoint.model(), checkpoint.folder
    family = model.family
    if family in WITHOUT_COUNTERPART:
        raise ConversionError(f"{source}: cannot be exported; {WITHOUT_COUNTERPART[family]}")
    if family not in COUNTERPARTS:
        raise ConversionError(f"{source}: the family {family} cannot be exported; {', '.join(COUNTERPARTS)} can")
    return model, COUNTERPARTS[family]


class Chosen(NamedTuple):
    """A class that has the parts of a checkpoint."""

    architecture: str
    rows: tuple[Row, ...]
    shapes: dict[str, Shape]
    """Of the parameters that it has."""
    notes: list[str]
    """What it does not have."""


def _class(counterpart: Counterpart, shapes: Mapping[str, Shape]) -> Chosen:
    """The class that has just the parts of a checkpoint, or all but a pooler that no objective reads.

    Raises:
        ConversionError: there is none.
    """
    backbone, *heads = counterpart.parts
    present = frozenset(name for name in heads if taken(counterpart.parts[name].rows, shapes))
    notes, kept = [], dict(shapes)
    if (
        present not in counterpart.classes
        and "sentence_pairs" not in present
        and present - {"pooler"} in counterpart.classes
    ):
        present -= {"pooler"}
        for name in taken(counterpart.parts["pooler"].rows, shapes):
            del kept[name]
        notes.append(f"the pooler is left out: {counterpart.classes[present]} has none")
    if present not in counterpart.classes:
        there_are = "; ".join(
            f"{name} with {', '.join(sorted(parts)) or 'no head'}" for parts, name in counterpart.classes.items()
        )
        raise ConversionError(
            f"the checkpoint has {', '.join(sorted(present))} beside the backbone, which no class of transformers has: "
            f"{there_are}"
        )
    rows = tuple(row for name in (backbone, *present) for row in counterpart.parts[name].rows)
    return Chosen(counterpart.classes[present], rows, kept, notes)


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
