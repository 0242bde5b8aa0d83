"""One engine for all settings: our model configuration to ``config.json``, and back."""

from collections.abc import Container, Mapping, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

import configs
from configs.errors import ConversionError
from pretrain.huggingface import config_keys as keys
from pretrain.huggingface.conversion import LARGEST, Counterpart, Setting, Source
from pretrain.huggingface.strict_json import shown
from pretrain.models import FAMILIES
from pretrain.models.family import ModelConfig

WITH_TENSORS = {"layers", "decoder_layers", "experts"}
"""Fields that count parts of a model, each of which has tensors of its own."""


def chosen(candidates: Sequence[Counterpart], config: ModelConfig) -> Counterpart:
    """The first of the model types that can say everything in ``config``.

    Raises:
        ConversionError: none can; it names the field that keeps the nearest one from it.
    """
    found = [_breaches(exchange, config) for exchange in candidates]
    for exchange, breaches in zip(candidates, found, strict=True):
        if not breaches:
            return exchange
    nearest = min(range(len(candidates)), key=lambda number: len(found[number]))
    classes = ", ".join(name for exchange in candidates for name in exchange.class_names)
    name, allowed = next(iter(found[nearest].items()))
    raise ConversionError(
        f"model.{name} = {config.resolved(name)!r}: transformers' {candidates[nearest].model_type} classes have "
        f"{allowed} there, and for the family {config.family} there are {classes} only"
    )


def there(exchange: Counterpart, config: ModelConfig, rows: int) -> dict[str, Any]:
    """``config.json`` without class and special ids, for a vocabulary of so many rows.

    Raises:
        ConversionError: it cannot say what ``config`` is.
    """
    values = {"model_type": exchange.model_type, "vocab_size": rows, "dtype": "float32"}
    values |= {**exchange.fixed} | {key: allowed[0] for key, allowed in exchange.theirs.items()}
    for setting in exchange.settings:
        value = config.resolved(setting.ours)
        values[setting.theirs] = setting.words[value][0] if setting.words is not None else value
    return values | exchange.further_there(config)


def back(exchange: Counterpart, source: Source, tensors: int, vocabulary_size: int) -> ModelConfig:
    """Our configuration from ``config.json``, for a tokenizer of so many pieces.

    Args:
        tensors: how many the model has.

    Raises:
        ConversionError: a key is missing, unknown, or has a value that means another model.
    """
    origin = source.origin
    keys.check(exchange, source.values, origin)
    fields = {setting.ours: _ours(exchange, setting, source.values, origin) for setting in exchange.settings}
    _check_counts(exchange, source.values, tensors, origin)
    fields |= exchange.further_back(source)
    multiple = vocabulary_multiple(source.values.get("vocab_size"), vocabulary_size, origin)
    fields |= {"family": exchange.family, "vocabulary_multiple": multiple}
    try:
        config = configs.parse(fields, FAMILIES[exchange.family].config, origin)
    except configs.ConfigError as error:
        raise ConversionError(str(error)) from None
    # What could not be exported again has been read wrongly, or means a model that no class of transformers has.
    try:
        there(chosen([exchange], config), config, config.padded(vocabulary_size))
    except ConversionError as error:
        raise ConversionError(f"{origin}: {error}") from None
    return config


def vocabulary_multiple(rows: Any, pieces: int, origin: str) -> int:
    """The multiple that pads so many pieces to so many rows: the usual one where it does, else the smallest.

    Raises:
        ConversionError: ``rows`` is no number, or too small for the pieces.
    """
    if type(rows) is not int or not 0 < rows <= LARGEST:
        raise ConversionError(f"{origin}: 'vocab_size' is {shown(rows)}; it has to be a whole number up to {LARGEST}")
    if pieces > rows:
        raise ConversionError(f"{origin}: 'vocab_size' is {rows}, but its tokenizer has {pieces} pieces; correct one")
    usual = ModelConfig.model_fields["vocabulary_multiple"].default
    divisors = [usual, *range(1, int(rows**0.5) + 1), *(rows // part for part in range(int(rows**0.5), 0, -1))]
    return next(multiple for multiple in divisors if -(-pieces // multiple) * multiple == rows)


def _breaches(exchange: Counterpart, config: ModelConfig) -> dict[str, str]:
    """Our fields whose values this model type does not have -> those that it has."""
    allowed: dict[str, Container[Any]] = {
        setting.ours: tuple(setting.words) for setting in exchange.settings if setting.words is not None
    }
    allowed |= exchange.ours
    allowed |= {name: (config.resolved(other),) for name, other in exchange.same.items()}
    return {name: _listed(values) for name, values in allowed.items() if config.resolved(name) not in values}


def _ours(exchange: Counterpart, setting: Setting, values: Mapping[str, Any], origin: str) -> Any:
    if setting.theirs not in values:
        if setting.default is ...:
            raise ConversionError(
                f"{origin}: has no '{setting.theirs}', which this model type needs; copy the file anew"
            )
        value = setting.default
    else:
        value = values[setting.theirs]
    if setting.words is None:
        return _checked(exchange, setting, value, origin)
    for ours, words in setting.words.items():
        if isinstance(value, str) and value in words:
            return ours
    known = ", ".join(str(word) for words in setting.words.values() for word in words)
    raise ConversionError(f"{origin}: '{setting.theirs}' is {shown(value)}; known are {known}")


def _checked(exchange: Counterpart, setting: Setting, value: Any, origin: str) -> Any:
    """A value that is what our field may be, and of a size that a model can have."""
    field = FAMILIES[exchange.family].config.model_fields[setting.ours]
    try:
        kind: Any = Annotated[field.annotation, field]  # type: ignore[valid-type]
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ConversionError(
            f"{origin}: '{setting.theirs}' is {shown(value)}; {message[0].lower()}{message[1:]}"
        ) from None
    if not abs(value) <= LARGEST:
        raise ConversionError(f"{origin}: '{setting.theirs}' is {shown(value)}, more than {LARGEST}; correct it")
    return value


def _check_counts(exchange: Counterpart, values: Mapping[str, Any], tensors: int, origin: str) -> None:
    """A model is not made of more parts than it has tensors: nobody waits for a billion layers to be made."""
    counted = [setting.theirs for setting in exchange.settings if setting.ours in WITH_TENSORS]
    for key in (*counted, *exchange.further):
        value = values.get(key)
        if ("layers" in key or key in counted) and type(value) is int and value > tensors:
            raise ConversionError(
                f"{origin}: '{key}' is {value}, but the model has {tensors} tensors in all; correct it"
            )


def _listed(allowed: Container[Any]) -> str:
    if isinstance(allowed, range):
        return f"{allowed.start} or more"
    return " or ".join(repr(value) for value in allowed)  # type: ignore[attr-defined]
