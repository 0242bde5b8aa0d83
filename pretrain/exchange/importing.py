"""``sesame import``: a folder in transformers' layout as a checkpoint that was trained for no steps."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import configs
from configs.errors import ConfigError, ExchangeError
from data_pipeline.tokenizer import Tokenizer
from pretrain import checkpoint, learner
from pretrain.exchange import EXCHANGES, keys
from pretrain.exchange.aside import written_aside
from pretrain.exchange.mapping import Exchange, Row, Source
from pretrain.exchange.model_folder import ModelFolder
from pretrain.exchange.settings import back
from pretrain.exchange.strict_json import shown
from pretrain.exchange.tokenizer_files import read_tokenizer, special_ids
from pretrain.exchange.weights import Shape, imported, matches, normal_names, taken
from pretrain.models.family import ModelConfig, Vocabulary


class Imported(NamedTuple):
    """What was written."""

    folder: Path
    family: str
    objectives: dict[str, float]
    """Objectives whose heads were there."""
    notes: tuple[str, ...] = ()
    """What is different here."""


class Read(NamedTuple):
    """A model that was read."""

    config: ModelConfig
    objectives: dict[str, float]
    weights: dict[str, Tensor]
    notes: list[str]


def import_model(path: Path, output: Path) -> Imported:
    """Write the model in the folder ``path`` as a checkpoint to ``output``.

    Raises:
        ExchangeError: the folder is incomplete, or its model is none that a family here can be.
    """
    folder = ModelFolder(path)
    twin = _twin(folder)
    tokenizer = read_tokenizer(path)
    named = Tokenizer(tokenizer, str(path))
    model = _read(folder, twin, len(named))
    notes = [*model.notes, *special_ids(folder.values, named.special, folder.origin)]
    facts = {
        "step": 0,
        "samples": 0,
        "seed": 0,
        "vocabulary_size": len(named),
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
        "config": {"model": configs.dump(model.config), "objectives": model.objectives},
    }
    with written_aside(output) as partial:
        checkpoint.write_weights(partial, model.weights, tokenizer, facts)
    return Imported(output, twin.family, model.objectives, tuple(notes))


def _read(folder: ModelFolder, twin: Exchange, pieces: int) -> Read:
    """The folder's model for a tokenizer of so many pieces."""
    names = normal_names(twin, folder.tensors)
    present = _present(twin, names)
    rows = tuple(row for part in present for row in twin.parts[part].rows)
    values = keys.resolved(twin, folder.values, folder.origin)
    with folder.reader() as read:

        def value(name: str) -> Tensor:
            return read(names[name])

        config = back(twin, Source(values, names, value, folder.origin), len(names), pieces)
        weights = imported(rows, _shapes(twin, rows, config, pieces, folder.origin), names, value, twin.copies)
    objectives = {key: weight for part in present for key, weight in twin.parts[part].objectives.items()}
    notes = [*twin.remarks(values), *folder.notes(list(names.values()))]
    if "pooler" in present and "sentence_pairs" not in present:
        notes.append("the pooler is kept, for fine-tuning; it has no objective of its own")
    return Read(config, objectives, weights, notes)


def _twin(folder: ModelFolder) -> Exchange:
    """The model type that the folder's settings speak of."""
    kind = folder.values.get("model_type")
    twins = [twin for twins in EXCHANGES.values() for twin in twins]
    same = [twin for twin in twins if twin.model_type == kind]
    if not same:
        known = ", ".join(dict.fromkeys(twin.model_type for twin in twins))
        raise ExchangeError(f"{folder.origin}: 'model_type' is {shown(kind)}; what can be imported is {known}")
    return min(same, key=lambda twin: keys.breaches(twin, folder.values))


def _present(twin: Exchange, names: Mapping[str, str]) -> list[str]:
    """The parts that the tensors have."""
    backbone, *heads = twin.parts
    return [backbone, *(head for head in heads if _has(twin.parts[head].rows, names))]


def _has(rows: tuple[Row, ...], names: Mapping[str, str]) -> bool:
    return any(matches(row, name) for row in rows for name in names)


def _shapes(twin: Exchange, rows: tuple[Row, ...], config: ModelConfig, pieces: int, origin: str) -> dict[str, Shape]:
    """Whole shape of the backbone's parameters and of those of the parts that are there."""
    every = [row.ours for part in twin.parts.values() for row in part.rows]
    patterns = [pattern for ours in every for pattern in ((ours,) if isinstance(ours, str) else ours)]
    objectives: dict[str, Any] = {
        **{pattern.split(".")[1]: 1.0 for pattern in patterns if pattern.startswith("objectives.")},
        **{key: 1.0 for part in twin.parts.values() for key in part.objectives},
    }
    try:
        model = learner.build(config, objectives, Vocabulary(pieces))
    except ConfigError as error:
        raise ExchangeError(f"{origin}: {error}") from None
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    heads = taken(rows, shapes)
    return {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in heads}
