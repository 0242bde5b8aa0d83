"""``sesame export``: write a checkpoint as a folder that transformers loads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save_file

from sesame.configs.errors import ConversionError
from sesame.configs.file_errors import file_errors_as
from sesame.data_pipeline.tokenizers.huggingface import write_tokenizer
from sesame.pretrain.checkpoints.load import WEIGHTS_ONLY, Checkpoint, open_checkpoint, require_latest
from sesame.pretrain.huggingface import COUNTERPARTS, WITHOUT_COUNTERPART
from sesame.pretrain.huggingface.config_values import choose_counterpart, config_to_hf
from sesame.pretrain.huggingface.counterpart import Counterpart, ParameterMapping
from sesame.pretrain.huggingface.model_folder import WEIGHTS
from sesame.pretrain.huggingface.output_folder import new_folder
from sesame.pretrain.huggingface.weights import Shape, mapped_parameters, weights_to_hf
from sesame.pretrain.models.family import ModelConfig

EMBEDDING = "backbone.token_embedding.weight"


class Exported(NamedTuple):
    """Result of an export."""

    folder: Path
    architecture: str
    """Name of the transformers class."""
    notes: tuple[str, ...]
    """Differences between the exported model and the checkpoint."""


def export(path: Path, folder: Path) -> Exported:
    """Write a run's newest checkpoint to ``folder`` as ``config.json``, safetensors and tokenizer files.

    Args:
        path: folder of a run or of one checkpoint.

    Raises:
        CheckpointError: ``path`` contains no complete checkpoint.
        ConversionError: transformers has no class for the model, or ``folder`` is not empty or not writable.
    """
    with file_errors_as(ConversionError, path, "read"):
        source = require_latest(path)
    checkpoint = open_checkpoint(source, kinds=WEIGHTS_ONLY)
    shapes = checkpoint.record.shapes
    config, counterparts = _model(checkpoint)
    counterpart = choose_counterpart(counterparts, config)
    with new_folder(folder) as partial:
        longest, segments = getattr(config, "positions", None), getattr(config, "segments", 2)
        special = write_tokenizer(source / "tokenizer.model", partial, counterpart.model_type, longest, segments)
        config, changes = counterpart.adapt(config, special)
        target = choose_class(counterpart, shapes)
        stored = checkpoint.tensors("weights")
        tensors = weights_to_hf(
            target.mappings, target.shapes, lambda name: changes.get(name, lambda value: value)(stored.whole(name))
        )
        if target.architecture == counterpart.base_class:
            tensors = {name.removeprefix(counterpart.base_prefix): tensor for name, tensor in tensors.items()}
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        values = {
            "architectures": [target.architecture],
            **config_to_hf(counterpart, config, shapes[EMBEDDING][0]),
            **special,
        }
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (partial / "config.json").write_text(text, encoding="utf-8")
    return Exported(folder, target.architecture, (*counterpart.export_notes(config), *target.notes))


def _model(checkpoint: Checkpoint) -> tuple[ModelConfig, tuple[Counterpart, ...]]:
    """Return the model configuration of a checkpoint and the counterparts of its family."""
    model, source = checkpoint.model(), checkpoint.folder
    family = model.family
    if family in WITHOUT_COUNTERPART:
        raise ConversionError(f"{source}: cannot be exported; {WITHOUT_COUNTERPART[family]}")
    if family not in COUNTERPARTS:
        raise ConversionError(
            f"{source}: the family {family} cannot be exported; families that can: {', '.join(COUNTERPARTS)}"
        )
    return model, COUNTERPARTS[family]


class TargetClass(NamedTuple):
    """A transformers class for the parameters of a checkpoint."""

    architecture: str
    mappings: tuple[ParameterMapping, ...]
    shapes: dict[str, Shape]
    """Sesame parameter name -> shape, for the parameters of the class."""
    notes: list[str]
    """Parameters that are not exported."""


def choose_class(counterpart: Counterpart, shapes: Mapping[str, Shape]) -> TargetClass:
    """Return the class with exactly the components of a checkpoint, or without a pooler that no objective uses.

    Raises:
        ConversionError: there is no such class.
    """
    backbone, *heads = counterpart.components
    present = frozenset(name for name in heads if mapped_parameters(counterpart.components[name].mappings, shapes))
    notes, exported_shapes = [], dict(shapes)
    if (
        present not in counterpart.architectures
        and "sentence_pairs" not in present
        and present - {"pooler"} in counterpart.architectures
    ):
        present -= {"pooler"}
        for name in mapped_parameters(counterpart.components["pooler"].mappings, shapes):
            del exported_shapes[name]
        notes.append(f"the pooler is not exported: {counterpart.architectures[present]} has none")
    if present not in counterpart.architectures:
        available = "; ".join(
            f"{name} with {', '.join(sorted(components)) or 'no head'}"
            for components, name in counterpart.architectures.items()
        )
        raise ConversionError(
            f"the checkpoint has the heads {', '.join(sorted(present))}, which no class of transformers combines; "
            f"available: {available}"
        )
    mappings = tuple(mapping for name in (backbone, *present) for mapping in counterpart.components[name].mappings)
    return TargetClass(counterpart.architectures[present], mappings, exported_shapes, notes)
