"""``sesame import``: write a folder in transformers' layout as a checkpoint of step 0."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sesame import configs
from sesame.configs.errors import ConfigError, ConversionError
from sesame.configs.storage import digest_of
from sesame.configs.strict_json import abbreviate
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain import learner
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.huggingface import COUNTERPARTS
from sesame.pretrain.huggingface.config_keys import resolve_aliases, unsupported_keys
from sesame.pretrain.huggingface.config_values import config_from_hf
from sesame.pretrain.huggingface.counterpart import Counterpart, HFModel, ParameterMapping
from sesame.pretrain.huggingface.model_folder import ModelFolder
from sesame.pretrain.huggingface.output_folder import new_folder
from sesame.pretrain.huggingface.tokenizer_files import read_tokenizer, special_ids
from sesame.pretrain.huggingface.weights import Shape, mapped_parameters, matches, normalized_names, weights_from_hf
from sesame.pretrain.models.family import ModelConfig, Vocabulary


class Imported(NamedTuple):
    """Result of an import."""

    folder: Path
    family: str
    objectives: dict[str, float]
    """Objective -> loss weight, for the heads of the model."""
    notes: tuple[str, ...] = ()
    """Differences between the checkpoint and the imported model."""


class ConvertedModel(NamedTuple):
    """A model of transformers as a model of Sesame."""

    config: ModelConfig
    objectives: dict[str, float]
    weights: dict[str, Tensor]
    notes: list[str]


def import_model(path: Path, output: Path) -> Imported:
    """Write the model in the folder ``path`` as a checkpoint to ``output``.

    Raises:
        ConversionError: the folder is incomplete or damaged, or no family can represent its model.
    """
    folder = ModelFolder(path)
    counterpart = _counterpart(folder)
    content = read_tokenizer(path)
    tokenizer = Tokenizer.from_bytes(content, str(path))
    model = _convert(folder, counterpart, len(tokenizer))
    notes = [*model.notes, *special_ids(folder.values, tokenizer.special, folder.origin)]
    metadata = CheckpointMetadata(
        step=0,
        samples=0,
        seed=0,
        vocabulary_size=len(tokenizer),
        tokenizer_sha256=digest_of(content),
        config={"model": configs.dump(model.config), "objectives": model.objectives},
    )
    with new_folder(output) as partial:
        write_weights(partial, model.weights, content, metadata)
    return Imported(output, counterpart.family, model.objectives, tuple(notes))


def _convert(folder: ModelFolder, counterpart: Counterpart, vocabulary_size: int) -> ConvertedModel:
    names = normalized_names(counterpart, folder.tensors)
    present = _components(counterpart, names)
    mappings = tuple(mapping for name in present for mapping in counterpart.components[name].mappings)
    values = resolve_aliases(counterpart, folder.values, folder.origin)
    with folder.reader() as read_tensor:

        def read(name: str) -> Tensor:
            return read_tensor(names[name])

        model = HFModel(values, names, read, folder.origin)
        config = config_from_hf(counterpart, model, len(names), vocabulary_size)
        shapes = _shapes(counterpart, mappings, config, vocabulary_size, folder.origin)
        weights = weights_from_hf(mappings, shapes, names, read, counterpart.tied_tensors, str(folder.path))
    objectives = {key: weight for name in present for key, weight in counterpart.components[name].objectives.items()}
    notes = [*counterpart.import_notes(values), *folder.notes(list(names.values()))]
    if "pooler" in present and "sentence_pairs" not in present:
        notes.append("the pooler is kept for fine-tuning; it has no pretraining objective")
    return ConvertedModel(config, objectives, weights, notes)


def _counterpart(folder: ModelFolder) -> Counterpart:
    """Return the counterpart with the folder's model type that supports most of its ``config.json``."""
    model_type = folder.values.get("model_type")
    counterparts = [counterpart for counterparts in COUNTERPARTS.values() for counterpart in counterparts]
    candidates = [counterpart for counterpart in counterparts if counterpart.model_type == model_type]
    if not candidates:
        supported = ", ".join(dict.fromkeys(counterpart.model_type for counterpart in counterparts))
        raise ConversionError(f"{folder.origin}: 'model_type' is {abbreviate(model_type)}; supported: {supported}")
    return min(candidates, key=lambda counterpart: unsupported_keys(counterpart, folder.values))


def _components(counterpart: Counterpart, names: Mapping[str, str]) -> list[str]:
    """Return the backbone and the heads that have at least one tensor."""
    backbone, *heads = counterpart.components
    return [backbone, *(head for head in heads if _has_tensor(counterpart.components[head].mappings, names))]


def _has_tensor(mappings: tuple[ParameterMapping, ...], names: Mapping[str, str]) -> bool:
    return any(matches(mapping, name) for mapping in mappings for name in names)


def _shapes(
    counterpart: Counterpart,
    mappings: tuple[ParameterMapping, ...],
    config: ModelConfig,
    vocabulary_size: int,
    origin: str,
) -> dict[str, Shape]:
    """Return the unsharded shapes of the backbone's parameters and of those in ``mappings``."""
    components = counterpart.components.values()
    ours = [mapping.ours for component in components for mapping in component.mappings]
    patterns = [pattern for each in ours for pattern in ((each,) if isinstance(each, str) else each)]
    objectives: dict[str, Any] = {
        **{pattern.split(".")[1]: 1.0 for pattern in patterns if pattern.startswith("objectives.")},
        **{key: 1.0 for component in components for key in component.objectives},
    }
    try:
        model = learner.build(config, objectives, Vocabulary(vocabulary_size))
    except ConfigError as error:
        raise ConversionError(f"{origin}: {error}") from None
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    in_heads = mapped_parameters(mappings, shapes)
    return {name: shape for name, shape in shapes.items() if name.startswith("backbone.") or name in in_heads}
