"""Conversion of the model configuration by the configuration mappings of a counterpart."""

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from sesame import configs
from sesame.configs.errors import ConversionError
from sesame.configs.strict_json import abbreviate
from sesame.pretrain.huggingface.config_keys import check_keys
from sesame.pretrain.huggingface.counterpart import ConfigMapping, Counterpart, HFModel
from sesame.pretrain.huggingface.value_types import LARGEST
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import ModelConfig

COUNTS = {"layers", "decoder_layers", "experts"}
"""Sesame fields that count modules, each of which has tensors of its own."""


def choose_counterpart(candidates: Sequence[Counterpart], config: ModelConfig) -> Counterpart:
    """Return the first counterpart that can represent ``config``.

    Raises:
        ConversionError: none can; the message names a field that the closest one does not support.
    """
    unsupported = [_unsupported_fields(counterpart, config) for counterpart in candidates]
    for counterpart, fields in zip(candidates, unsupported, strict=True):
        if not fields:
            return counterpart
    closest = min(range(len(candidates)), key=lambda number: len(unsupported[number]))
    classes = ", ".join(name for counterpart in candidates for name in counterpart.class_names)
    name, supported = next(iter(unsupported[closest].items()))
    raise ConversionError(
        f"model.{name} = {config.resolved(name)!r}: transformers' {candidates[closest].model_type} classes support "
        f"only {supported}; classes for the family {config.family}: {classes}"
    )


def config_to_hf(counterpart: Counterpart, config: ModelConfig, vocabulary_rows: int) -> dict[str, Any]:
    """Return the content of ``config.json`` without ``architectures`` and token ids.

    Args:
        vocabulary_rows: rows of the token embedding.

    Raises:
        ConversionError: the model type cannot represent ``config``.
    """
    values = {"model_type": counterpart.model_type, "vocab_size": vocabulary_rows, "dtype": "float32"}
    values |= {**counterpart.constant_keys} | {key: allowed[0] for key, allowed in counterpart.fixed_values.items()}
    for mapping in counterpart.config_mappings:
        value = config.resolved(mapping.ours)
        values[mapping.hf] = mapping.choices[value][0] if mapping.choices is not None else value
    return values | counterpart.extra_to_hf(config)


def config_from_hf(counterpart: Counterpart, model: HFModel, tensor_count: int, vocabulary_size: int) -> ModelConfig:
    """Return the Sesame configuration of a transformers model.

    Args:
        tensor_count: number of tensors of the model, a limit of its layers and experts.
        vocabulary_size: number of tokens of its tokenizer.

    Raises:
        ConversionError: a key is missing or unknown, or the family does not support its value.
    """
    origin = model.origin
    check_keys(counterpart, model.config, origin)
    fields = {each.ours: _field(counterpart, each, model.config, origin) for each in counterpart.config_mappings}
    _check_counts(counterpart, model.config, tensor_count, origin)
    fields |= counterpart.extra_from_hf(model)
    multiple = vocabulary_multiple(model.config.get("vocab_size"), vocabulary_size, origin)
    fields |= {"family": counterpart.family, "vocabulary_multiple": multiple}
    try:
        config = configs.parse(fields, FAMILIES[counterpart.family].config, origin)
    except configs.ConfigError as error:
        raise ConversionError(str(error)) from None
    # A configuration that cannot be exported again was read wrongly, or is not supported by the class.
    try:
        config_to_hf(choose_counterpart([counterpart], config), config, config.padded(vocabulary_size))
    except ConversionError as error:
        raise ConversionError(f"{origin}: {error}") from None
    return config


def vocabulary_multiple(rows: Any, vocabulary_size: int, origin: str) -> int:
    """Return the multiple that pads ``vocabulary_size`` to ``rows``: the default if possible, else the smallest.

    Raises:
        ConversionError: ``rows`` is not an integer, or smaller than ``vocabulary_size``.
    """
    if type(rows) is not int or not 0 < rows <= LARGEST:
        raise ConversionError(
            f"{origin}: 'vocab_size' is {abbreviate(rows)}; it must be an integer from 1 to {LARGEST}"
        )
    if vocabulary_size > rows:
        raise ConversionError(
            f"{origin}: 'vocab_size' is {rows}, but its tokenizer has {vocabulary_size} tokens; correct one of them"
        )
    default = ModelConfig.model_fields["vocabulary_multiple"].default
    root = int(rows**0.5)
    candidates = [default, *range(1, root + 1), *(rows // part for part in range(root, 0, -1))]
    return next(multiple for multiple in candidates if -(-vocabulary_size // multiple) * multiple == rows)


def _unsupported_fields(counterpart: Counterpart, config: ModelConfig) -> dict[str, str]:
    """Return Sesame field -> supported values, for the fields that the model type cannot represent."""
    supported: dict[str, Container[Any]] = {
        mapping.ours: tuple(mapping.choices) for mapping in counterpart.config_mappings if mapping.choices is not None
    }
    supported |= counterpart.supported_values
    supported |= {name: (config.resolved(other),) for name, other in counterpart.equal_fields.items()}
    return {name: _listed(values) for name, values in supported.items() if config.resolved(name) not in values}


def _field(counterpart: Counterpart, mapping: ConfigMapping, values: Mapping[str, Any], origin: str) -> Any:
    """Return the Sesame value of the field in ``mapping``."""
    if mapping.hf not in values and mapping.default is ...:
        raise ConversionError(f"{origin}: the required key '{mapping.hf}' is missing; copy the file again")
    value = values.get(mapping.hf, mapping.default)
    if mapping.choices is None:
        return _checked(counterpart, mapping, value, origin)
    for ours, equivalents in mapping.choices.items():
        if isinstance(value, str) and value in equivalents:
            return ours
    known = ", ".join(str(each) for equivalents in mapping.choices.values() for each in equivalents)
    raise ConversionError(f"{origin}: '{mapping.hf}' is {abbreviate(value)}; supported: {known}")


def _checked(counterpart: Counterpart, mapping: ConfigMapping, value: Any, origin: str) -> Any:
    """Return ``value`` if it has the type of the Sesame field and does not exceed ``LARGEST``."""
    field = FAMILIES[counterpart.family].config.model_fields[mapping.ours]
    try:
        field_type: Any = Annotated[field.annotation, field]  # type: ignore[valid-type]
        TypeAdapter(field_type).validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ConversionError(
            f"{origin}: '{mapping.hf}' is {abbreviate(value)}; {message[0].lower()}{message[1:]}"
        ) from None
    if not abs(value) <= LARGEST:
        raise ConversionError(f"{origin}: '{mapping.hf}' is {abbreviate(value)}, more than {LARGEST}; correct it")
    return value


def _check_counts(counterpart: Counterpart, values: Mapping[str, Any], tensor_count: int, origin: str) -> None:
    """Refuse more layers or experts than tensors, before a model of a billion layers is built."""
    counts = [mapping.hf for mapping in counterpart.config_mappings if mapping.ours in COUNTS]
    for key in (*counts, *counterpart.extra_keys):
        value = values.get(key)
        if ("layers" in key or key in counts) and type(value) is int and value > tensor_count:
            raise ConversionError(
                f"{origin}: '{key}' is {value}, but the model has only {tensor_count} tensors; correct it"
            )


def _listed(values: Container[Any]) -> str:
    if isinstance(values, range):
        return f"{values.start} or more"
    return " or ".join(repr(value) for value in values)  # type: ignore[attr-defined]
