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
from pretrain.exchange.aside import sentences, written_aside
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
    with sentences(path, "read"):
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
        found = _class(twin, record.shapes)
        stored = checkpoint.stored(source, record, "weights")
        tensors = exported(
            found.rows, found.shapes, lambda name: changes.get(name, lambda value: value)(stored.whole(name))
        )
        if found.architecture == twin.bare:
            tensors = {name.removeprefix(twin.prefix): tensor for name, tensor in tensors.items()}
        save_file(tensors, partial / WHOLE, metadata={"format": "pt"})
        values = {"architectures": [found.architecture], **there(twin, config, record.shapes[EMBEDDING][0]), **special}
        _write(partial / "config.json", values)
    return Exported(folder, found.architecture, (*twin.notes(config), *found.notes))


def _model(source: Path, record: checkpoint.Record) -> tuple[ModelConfig, tuple[Exchange, ...]]:
    model = checkpoint.model_config(source, record)
    family = model.family
    if family in WITHOUT_TWIN:
        raise ExchangeError(f"{source}: cannot be exported; {WITHOUT_TWIN[family]}")
    if family not in EXCHANGES:
        raise ExchangeError(f"{source}: the family {family} cannot be exported; {', '.join(EXCHANGES)} can")
    return model, EXCHANGES[family]


class Chosen(NamedTuple):
    """A class that has the parts of a checkpoint."""

    architecture: str
    rows: tuple[Row, ...]
    shapes: dict[str, Shape]
    """Of the parameters that it has."""
    notes: list[str]
    """What it does not have."""


def _class(twin: Exchange, shapes: Mapping[str, Shape]) -> Chosen:
    """The class that has just the parts of a checkpoint, or all but a pooler that no objective reads.

    Raises:
        ExchangeError: there is none.
    """
    backbone, *heads = twin.parts
    present = frozenset(name for name in heads if taken(twin.parts[name].rows, shapes))
    notes, kept = [], dict(shapes)
    if present not in twin.classes and "sentence_pairs" not in present and present - {"pooler"} in twin.classes:
        present -= {"pooler"}
        for name in taken(twin.parts["pooler"].rows, shapes):
            del kept[name]
        notes.append(f"the pooler is left out: {twin.classes[present]} has none")
    if present not in twin.classes:
        there_are = "; ".join(
            f"{name} with {', '.join(sorted(parts)) or 'no head'}" for parts, name in twin.classes.items()
        )
        raise ExchangeError(
            f"the checkpoint has {', '.join(sorted(present))} beside the backbone, which no class of transformers has: "
            f"{there_are}"
        )
    rows = tuple(row for name in (backbone, *present) for row in twin.parts[name].rows)
    return Chosen(twin.classes[present], rows, kept, notes)


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
