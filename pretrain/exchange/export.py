"""``sesame export``: a checkpoint as a folder that transformers loads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from configs.errors import CheckpointError, ExchangeError
from data_pipeline.tokenizer_exchange import write_tokenizer
from pretrain import checkpoint
from pretrain.exchange import EXCHANGES, WITHOUT_TWIN
from pretrain.exchange.aside import written_aside
from pretrain.exchange.mapping import Exchange, Row
from pretrain.exchange.model_folder import WHOLE
from pretrain.exchange.settings import chosen, there
from pretrain.exchange.weights import Shape, exported, taken
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
        ExchangeError: transformers has no class for the model, or ``folder`` holds something.
    """
    source = checkpoint.latest(path)
    if source is None:
        raise CheckpointError(f"{path}: holds no checkpoint; give a folder that `sesame pretrain` wrote")
    record = checkpoint.read(source)
    config, twins = _model(source, record)
    twin = chosen(twins, config)
    with written_aside(folder) as partial:
        longest, segments = getattr(config, "positions", None), getattr(config, "segments", 2)
        special = write_tokenizer(source / "tokenizer.model", partial, twin.model_type, longest, segments)
        config, changes = twin.fitted(config, special)
        architecture, rows = _class(twin, record.shapes)
        stored = checkpoint.stored(source, record, "weights")
        tensors = exported(rows, record.shapes, lambda name: changes.get(name, lambda value: value)(stored.whole(name)))
        if architecture == twin.bare:
            tensors = {name.removeprefix(twin.prefix): tensor for name, tensor in tensors.items()}
        save_file(tensors, partial / WHOLE, metadata={"format": "pt"})
        values = {"architectures": [architecture], **there(twin, config, record.shapes[EMBEDDING][0]), **special}
        _write(partial / "config.json", values)
    return Exported(folder, architecture, twin.notes)


def _model(source: Path, record: checkpoint.Record) -> tuple[ModelConfig, tuple[Exchange, ...]]:
    model = checkpoint.model_config(source, record)
    family = model.family
    if family in WITHOUT_TWIN:
        raise ExchangeError(f"{source}: cannot be exported; {WITHOUT_TWIN[family]}")
    if family not in EXCHANGES:
        raise ExchangeError(f"{source}: the family {family} cannot be exported; {', '.join(EXCHANGES)} can")
    return model, EXCHANGES[family]


def _class(twin: Exchange, shapes: Mapping[str, Shape]) -> tuple[str, tuple[Row, ...]]:
    """The class that has just the parts of a checkpoint, and their rows."""
    backbone, *heads = twin.parts
    present = frozenset(name for name in heads if taken(twin.parts[name].rows, shapes))
    if present not in twin.classes:
        there_are = "; ".join(
            f"{name} with {', '.join(sorted(parts)) or 'no head'}" for parts, name in twin.classes.items()
        )
        raise ExchangeError(
            f"the checkpoint has {', '.join(sorted(present))} beside the backbone, which no class of transformers has: "
            f"{there_are}"
        )
    return twin.classes[present], tuple(row for name in (backbone, *present) for row in twin.parts[name].rows)


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
