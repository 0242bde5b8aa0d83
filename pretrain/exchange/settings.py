"""One engine for all settings: our model configuration to ``config.json``, and back."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import configs
from configs.errors import ExchangeError
from pretrain.exchange.mapping import Exchange, Setting
from pretrain.models import FAMILIES
from pretrain.models.family import ModelConfig


def chosen(candidates: Sequence[Exchange], config: ModelConfig) -> Exchange:
    """The first of the model types that can say everything in ``config``.

    Raises:
        ExchangeError: none can; it names the field that keeps the nearest one from it.
    """
    breaches = [_breaches(exchange, config) for exchange in candidates]
    for exchange, found in zip(candidates, breaches, strict=True):
        if not found:
            return exchange
    nearest = min(range(len(candidates)), key=lambda number: len(breaches[number]))
    classes = ", ".join(name for exchange in candidates for name in exchange.class_names)
    name = breaches[nearest][0]
    raise ExchangeError(
        f"model.{name} = {getattr(config, name)!r}: transformers' {candidates[nearest].model_type} classes have "
        f"{_listed(candidates[nearest].ours[name])} there, and for the family {config.family} there are {classes} only"
    )


def there(exchange: Exchange, config: ModelConfig, rows: int) -> dict[str, Any]:
    """``config.json`` without class and special ids, for a vocabulary of so many rows."""
    values = {"model_type": exchange.model_type, "vocab_size": rows, "dtype": "float32"}
    values |= {**exchange.fixed} | {key: allowed[0] for key, allowed in exchange.theirs.items()}
    for setting in exchange.settings:
        value = getattr(config, setting.ours)
        values[setting.theirs] = setting.words[value][0] if setting.words is not None else value
    return values | exchange.further_there(config)


def back(exchange: Exchange, values: Mapping[str, Any], vocabulary_size: int, origin: str) -> ModelConfig:
    """Our configuration from ``config.json``, for a tokenizer of so many pieces; ``origin`` names the file.

    Raises:
        ExchangeError: a key is missing or has a value that means another model.
    """
    for key in breaches_there(exchange, values):
        only = _listed(exchange.theirs[key])
        raise ExchangeError(f"{origin}: '{key}' is {values[key]!r}; only {only} can be imported")
    fields = {setting.ours: _ours(setting, values, origin) for setting in exchange.settings}
    fields |= exchange.further_back(values)
    multiple = vocabulary_multiple(_required(values, "vocab_size", origin), vocabulary_size, origin)
    fields |= {"family": exchange.family, "vocabulary_multiple": multiple}
    try:
        return configs.parse(fields, FAMILIES[exchange.family].config, origin)
    except configs.ConfigError as error:
        raise ExchangeError(str(error)) from None


def vocabulary_multiple(rows: int, pieces: int, origin: str) -> int:
    """The multiple that pads so many pieces to so many rows: the usual one where it does, else the smallest."""
    if pieces > rows:
        raise ExchangeError(f"{origin}: 'vocab_size' is {rows}, but its tokenizer has {pieces} pieces; correct one")
    usual = ModelConfig.model_fields["vocabulary_multiple"].default
    candidates = (usual, *range(rows - pieces + 1, rows + 1))
    return next(multiple for multiple in candidates if -(-pieces // multiple) * multiple == rows)


def breaches_there(exchange: Exchange, values: Mapping[str, Any]) -> list[str]:
    """Keys of ``config.json`` whose values this twin does not have."""
    return [key for key, allowed in exchange.theirs.items() if values.get(key, allowed[0]) not in allowed]


def _breaches(exchange: Exchange, config: ModelConfig) -> list[str]:
    return [name for name, allowed in exchange.ours.items() if getattr(config, name) not in allowed]


def _ours(setting: Setting, values: Mapping[str, Any], origin: str) -> Any:
    value = values.get(setting.theirs)
    if value is None:
        value = _required(values, setting.theirs, origin) if setting.default is ... else setting.default
    if setting.words is None:
        return value
    for ours, words in setting.words.items():
        if value in words:
            return ours
    known = ", ".join(str(word) for words in setting.words.values() for word in words)
    raise ExchangeError(f"{origin}: '{setting.theirs}' is {value!r}; known are {known}")


def _required(values: Mapping[str, Any], key: str, origin: str) -> Any:
    if values.get(key) is None:
        raise ExchangeError(f"{origin}: has no '{key}', which this model type needs; copy the file anew")
    return values[key]


def _listed(allowed: Container[Any]) -> str:
    if isinstance(allowed, range):
        return f"{allowed.start} or more"
    return " or ".join(repr(value) for value in allowed)  # type: ignore[attr-defined]
