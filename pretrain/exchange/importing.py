"""``sesame import``: a folder in transformers' layout as a checkpoint that was trained for no steps."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import configs
from configs.errors import ExchangeError
from data_pipeline.tokenizer import Tokenizer
from data_pipeline.tokenizer_exchange import read_tokenizer
from pretrain import checkpoint, learner
from pretrain.exchange import EXCHANGES
from pretrain.exchange.aside import written_aside
from pretrain.exchange.mapping import Exchange, Row
from pretrain.exchange.model_folder import ModelFolder
from pretrain.exchange.settings import back, breaches_there
from pretrain.exchange.weights import Shape, imported, matches, normal_names, taken
from pretrain.models.family import ModelConfig, Vocabulary


class Imported(NamedTuple):
    """What was written."""

    folder: Path
    family: str
    objectives: dict[str, float]
    """Objectives whose heads were there."""


def import_model(path: Path, output: Path) -> Imported:
    """Write the model in the folder ``path`` as a checkpoint to ``output``.

    Raises:
        ExchangeError: the folder is incomplete, or its model is none that a family here can be.
    """
    source = ModelFolder(path)
    twin = _twin(source)
    tokenizer = read_tokenizer(path)
    pieces = len(Tokenizer(tokenizer, str(path)))
    config = back(twin, source.values, pieces, source.origin)
    names = normal_names(twin, source.names)
    rows, objectives = _parts(twin, names)
    with source.reader() as read:
        weights = imported(
            rows, _shapes(twin, rows, config, pieces), names, lambda name: read(names[name]), twin.copies
        )
    facts = {
        "step": 0,
        "samples": 0,
        "seed": 0,
        "vocabulary_size": pieces,
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
        "config": {"model": configs.dump(config), "objectives": objectives},
    }
    with written_aside(output) as partial:
        checkpoint.write_weights(partial, weights, tokenizer, facts)
    return Imported(output, twin.family, objectives)


def _twin(source: ModelFolder) -> Exchange:
    """The twin that the folder's settings speak of."""
    kind = source.values.get("model_type")
    twins = [twin for twins in EXCHANGES.values() for twin in twins]
    same = [twin for twin in twins if twin.model_type == kind]
    if not same:
        known = ", ".join(dict.fromkeys(twin.model_type for twin in twins))
        raise ExchangeError(f"{source.origin}: 'model_type' is {kind!r}; what can be imported is {known}")
    return min(same, key=lambda twin: len(breaches_there(twin, source.values)))


def _parts(twin: Exchange, names: Mapping[str, str]) -> tuple[tuple[Row, ...], dict[str, float]]:
    """Rows and objectives of the parts that the tensors have."""
    backbone, *heads = twin.parts
    present = [backbone, *(head for head in heads if _has(twin.parts[head].rows, names))]
    rows = tuple(row for name in present for row in twin.parts[name].rows)
    return rows, {key: value for name in present for key, value in twin.parts[name].objectives.items()}


def _has(rows: tuple[Row, ...], names: Mapping[str, str]) -> bool:
    return any(matches(row, name) for row in rows for name in names)


def _shapes(twin: Exchange, rows: tuple[Row, ...], config: ModelConfig, pieces: int) -> dict[str, Shape]:
    """Whole shape of the backbone's parameters and of those of the parts that are there."""
    objectives: dict[str, Any] = {key: 1.0 for part in twin.parts.values() for key in part.objectives}
    model = learner.build(config, objectives, Vocabulary(pieces))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    heads = taken(rows, shapes)
    return {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in heads}
