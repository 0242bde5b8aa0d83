"""``sesame import``: a folder in transformers' layout as a checkpoint that was trained for no steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import configs
from configs.errors import ConfigError, ConversionError
from configs.storage import digest_of
from data_pipeline.tokenizers.tokenizer import Tokenizer
from pretrain import learner
from pretrain.checkpoints.record import CheckpointMetadata
from pretrain.checkpoints.save import write_weights
from pretrain.huggingface import COUNTERPARTS
from pretrain.huggingface import config_keys as keys
from pretrain.huggingface.aside import written_aside
from pretrain.huggingface.config_values import back
from pretrain.huggingface.conversion import Counterpart, Row, Source
from pretrain.huggingface.model_folder import ModelFolder
from pretrain.huggingface.strict_json import shown
from pretrain.huggingface.tokenizer_files import read_tokenizer, special_ids
from pretrain.huggingface.weights import Shape, imported, matches, normal_names, taken
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
        ConversionError: the folder is incomplete, or its model is none that a family here can be.
    """
    folder = ModelFolder(path)
    counterpart = _counterpart(folder)
    tokenizer = read_tokenizer(path)
    named = Tokenizer.from_bytes(tokenizer, str(path))
    model = _read(folder, counterpart, len(named))
    notes = [*model.notes, *special_ids(folder.values, named.special, folder.origin)]
    metadata = CheckpointMetadata(
        step=0,
        samples=0,
        seed=0,
        vocabulary_size=len(named),
        tokenizer_sha256=digest_of(tokenizer),
        config={"model": configs.dump(model.config), "objectives": model.objectives},
    )
    with written_aside(output) as partial:
        write_weights(partial, model.weights, tokenizer, metadata)
    return Imported(output, counterpart.family, model.objectives, tuple(notes))


def _read(folder: ModelFolder, counterpart: Counterpart, pieces: int) -> Read:
    """The folder's model for a tokenizer of so many pieces."""
    names = normal_names(counterpart, folder.tensors)
    present = _present(counterpart, names)
    rows = tuple(row for part in present for row in counterpart.parts[part].rows)
    values = keys.resolved(counterpart, folder.values, folder.origin)
    with folder.reader() as read:

        def value(name: str) -> Tensor:
            return read(names[name])

        config = back(counterpart, Source(values, names, value, folder.origin), len(names), pieces)
        weights = imported(
            rows, _shapes(counterpart, rows, config, pieces, folder.origin), names, value, counterpart.copies
        )
    objectives = {key: weight for part in present for key, weight in counterpart.parts[part].objectives.items()}
    notes = [*counterpart.remarks(values), *folder.notes(list(names.values()))]
    if "pooler" in present and "sentence_pairs" not in present:
        notes.append("the pooler is kept, for fine-tuning; it has no objective of its own")
    return Read(config, objectives, weights, notes)


def _counterpart(folder: ModelFolder) -> Counterpart:
    """The model type that the folder's settings speak of."""
    kind = folder.values.get("model_type")
    counterparts = [counterpart for counterparts in COUNTERPARTS.values() for counterpart in counterparts]
    same = [counterpart for counterpart in counterparts if counterpart.model_type == kind]
    if not same:
        known = ", ".join(dict.fromkeys(counterpart.model_type for counterpart in counterparts))
        raise ConversionError(f"{folder.origin}: 'model_type' is {shown(kind)}; what can be imported is {known}")
    return min(same, key=lambda counterpart: keys.breaches(counterpart, folder.values))


def _present(counterpart: Counterpart, names: Mapping[str, str]) -> list[str]:
    """The parts that the tensors have."""
    backbone, *heads = counterpart.parts
    return [backbone, *(head for head in heads if _has(counterpart.parts[head].rows, names))]


def _has(rows: tuple[Row, ...], names: Mapping[str, str]) -> bool:
    return any(matches(row, name) for row in rows for name in names)


def _shapes(
    counterpart: Counterpart, rows: tuple[Row, ...], config: ModelConfig, pieces: int, origin: str
) -> dict[str, Shape]:
    """Whole shape of the backbone's parameters and of those of the parts that are there."""
    every = [row.ours for part in counterpart.parts.values() for row in part.rows]
    patterns = [pattern for ours in every for pattern in ((ours,) if isinstance(ours, str) else ours)]
    objectives: dict[str, Any] = {
        **{pattern.split(".")[1]: 1.0 for pattern in patterns if pattern.startswith("objectives.")},
        **{key: 1.0 for part in counterpart.parts.values() for key in part.objectives},
    }
    try:
        model = learner.build(config, objectives, Vocabulary(pieces))
    except ConfigError as error:
        raise ConversionError(f"{origin}: {error}") from None
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    heads = taken(rows, shapes)
    return {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in heads}
