"""Strict parsing of TOML files to typed configuration; one file configures one complete run.

TOML rather than YAML, which reads ``1e-4`` as a string. The configuration classes, subclasses of :class:`Section`, are
in the packages that they configure; this package imports none of them.
"""

import json
import math
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sesame.configs.errors import ConfigError, one_line

LARGEST_FILE = 2**24
"""Bytes of a configuration file."""
LARGEST_INTEGER = 2**63 - 1
LONGEST_OVERRIDE = 2**16
"""Characters."""
LONGEST_SHOWN = 120
"""Characters of a wrong value in a message."""
TOML_WORDS = {
    "Tuple": "Array",
    "valid tuple": "valid array",
    "valid list": "valid array",
    " after validation": "",
    "an object": "a table",
    "valid dictionary": "table",
}
"""Word of pydantic's messages -> that of TOML."""


class Section(BaseModel):
    """Base of all configuration classes: frozen, strict types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    one_or_more: ClassVar[tuple[str, ...]] = ()
    """Keys of arrays of tables that may be written as one table, meaning an array with one element."""


Config = TypeVar("Config", bound=Section)


def load(path: str | Path, kind: type[Config], overrides: Iterable[str] = ()) -> Config:
    """Read ``path`` as a ``kind``, with ``section.field=value`` overrides on top.

    Raises:
        ConfigError: the file is missing, is not TOML, or a key is unknown or of the wrong type.
    """
    path = Path(path)
    values = read(path)
    for override in overrides:
        apply_override(values, override)
    return parse(values, kind, str(path))


def read(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises:
        ConfigError: it is absent, or not TOML.
    """
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode) and (not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE):
            raise ConfigError(f"{path}: is a device or larger than {LARGEST_FILE:,} bytes, but a TOML file is needed")
        # Some editors begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file; `sesame configs` lists the shipped ones") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, but a TOML file is needed") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {one_line(error)}") from None


def parse(values: Mapping[str, Any], kind: type[Config], origin: str) -> Config:
    """Validate ``values`` as a ``kind``.

    Args:
        origin: name of their file, for messages.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type, or a value is invalid.
    """
    single = [key for key in kind.one_or_more if isinstance(values.get(key), Mapping)]
    values = {**values, **{key: [values[key]] for key in single}}
    try:
        for key, value in _leaves(values):
            if fault := unusable(value):
                raise ConfigError(f"{origin}: '{one_line(key)}' {fault}")
        for name, field in kind.model_fields.items():
            if Path in (field.annotation, *get_args(field.annotation)) and values.get(name) == "":
                raise ConfigError(f"{origin}: '{name}' is empty; name a folder")
        # JSON mode: arrays may become tuples and strings paths, which TOML does not have; numbers stay strict.
        return kind.model_validate_json(json.dumps(values, default=str), strict=True)
    except RecursionError:
        raise ConfigError(f"{origin}: tables and arrays are nested too deeply; reduce the nesting") from None
    except ValidationError as error:
        raise ConfigError(f"{origin}: {one_line(_message(error, kind, single))}") from None


def unusable(value: Any) -> str | None:
    """Return what is wrong with a number or string that no key accepts, else None."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"= {value}: must be finite"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"is a number of {len(f'{abs(value):x}')} hexadecimal digits; the largest possible is {LARGEST_INTEGER}"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        return "contains NUL or bytes that are not UTF-8; remove them"
    return None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for all values that are not tables or arrays, and for the keys themselves."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield f"{key}{name}", name
            yield from _leaves(inner, f"{key}{name}.")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}{number}.")
    else:
        yield key.removesuffix("."), value


def dump(config: Section) -> dict[str, Any]:
    """Return the configuration with its defaults as JSON values, the inverse of ``parse``."""
    return config.model_dump(mode="json")


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set a key of ``values`` as ``section.field=value`` says.

    Raises:
        ConfigError: the override is not written so, or does not fit the sections.
    """
    key, separator, text = override.partition("=")
    names = key.strip().split(".")
    if any(ord(character) < 32 and character != "\t" for character in override):
        raise ConfigError(f"--set {one_line(override)}: contains a control character; use one --set for each value")
    if len(override) > LONGEST_OVERRIDE:
        raise ConfigError(f"--set {one_line(override[:40])}...: is too long; set it in the file")
    override = one_line(override)
    if not separator or not all(names):
        raise ConfigError(f"--set {override}: write it as section.field=value")
    section: Any = values
    for name in names[:-1]:
        section = section.setdefault(name, {}) if isinstance(section, dict) else _table(section, name, override)
        if not isinstance(section, (dict, list)):
            raise ConfigError(f"--set {override}: '{name}' is a value, not a section")
    if isinstance(section, list):
        raise _index_error(section, names[-1], override)
    section[names[-1]] = _value(text.strip(), override)


def _table(tables: list[Any], name: str, override: str) -> Any:
    """Return the table at index ``name`` of an array of tables."""
    numbered = {str(number): table for number, table in enumerate(tables) if isinstance(table, dict)}
    if name not in numbered:
        raise _index_error(tables, name, override)
    return numbered[name]


def _index_error(tables: list[Any], name: str, override: str) -> ConfigError:
    return ConfigError(
        f"--set {override}: needs the number of a table (0 to {len(tables) - 1}) in place of '{name}', and then its key"
    )


def _value(text: str, override: str) -> Any:
    """Parse ``text`` as a TOML value; anything else is a string, so that paths need no quotes in a shell."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override[:80]}: is not valid TOML ({one_line(error)})") from None


def _message(error: ValidationError, kind: type[Section], single: Sequence[str]) -> str:
    first = error.errors(include_url=False)[0]
    written = [part for before, part in zip(("", *first["loc"]), first["loc"], strict=False) if before not in single]
    key = ".".join(map(str, written)) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_known(kind, first['loc'])}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix(f"[{key}]: ")
    if first["type"] == "value_error":
        return f"'{key}': {message}" if first["loc"] else message
    for theirs, ours in TOML_WORDS.items():
        message = message.replace(theirs, ours)
    shown = repr(first["input"])
    shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
    return f"'{key}' = {shown}: {message[:1].lower()}{message[1:]}"


def _known(kind: type[Section], location: tuple[int | str, ...]) -> str:
    """Return the valid keys of the section with the unknown key, if its class is known."""
    section: Any = kind
    for name in location[:-1]:
        if isinstance(name, int):
            section = next(iter(get_args(section)), None)
            continue
        field = getattr(section, "model_fields", {}).get(name)
        section = field.annotation if field else None
    names = getattr(section, "model_fields", None)
    return f"; known there: {', '.join(names)}" if names else ""
