"""Strict TOML -> typed configuration, one function each way; one file is one complete run.

TOML is read by the standard library, because YAML reads ``1e-4`` as a string. The classes themselves live in the
rooms that they configure, as subclasses of :class:`Section`; this room knows none of them.
"""

import json
import math
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import ConfigError, one_line

LARGEST_FILE = 2**24
"""Bytes of a configuration file."""
LARGEST_INTEGER = 2**63 - 1
LONGEST_OVERRIDE = 2**16
LONGEST_SHOWN = 120
"""Characters of a wrong value in a sentence."""


class Section(BaseModel):
    """Base of every configuration class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    one_or_more: ClassVar[tuple[str, ...]] = ()
    """Keys of arrays of tables that may be written as one table, which then is an array of one."""


Config = TypeVar("Config", bound=Section)


def load(path: str | Path, kind: type[Config], overrides: Iterable[str] = ()) -> Config:
    """Read ``path`` as a ``kind``, with ``section.field=value`` overrides on top.

    Raises:
        ConfigError: the file is missing, is not TOML, or a key is unknown or of the wrong type.
    """
    path = Path(path)
    values = _read(path)
    for override in overrides:
        _apply(values, override)
    return parse(values, kind, str(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode) and (not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE):
            raise ConfigError(f"{path}: is a device or larger than {LARGEST_FILE:,} bytes, but a TOML file is needed")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file; the shipped ones are under configs/") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, but a TOML file is needed") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {one_line(error)}") from None


def parse(values: Mapping[str, Any], kind: type[Config], origin: str) -> Config:
    """Validate plain ``values`` as a ``kind``; ``origin`` names their file in the error sentence."""
    single = [key for key in kind.one_or_more if isinstance(values.get(key), Mapping)]
    values = {**values, **{key: [values[key]] for key in single}}
    try:
        for key, value in _leaves(values):
            if fault := unusable(value):
                raise ConfigError(f"{origin}: '{one_line(key)}' {fault}")
        for name, field in kind.model_fields.items():
            if Path in (field.annotation, *get_args(field.annotation)) and values.get(name) == "":
                raise ConfigError(f"{origin}: '{name}' is empty; name a folder")
        # JSON mode: TOML has no tuple and no path, so arrays and strings may become them; numbers stay strict.
        return kind.model_validate_json(json.dumps(values, default=str), strict=True)
    except RecursionError:
        raise ConfigError(f"{origin}: tables and arrays lie too deep in each other; write it flat") from None
    except ValidationError as error:
        raise ConfigError(f"{origin}: {one_line(_sentence(error, kind, single))}") from None


def unusable(value: Any) -> str | None:
    """What is wrong with a number or a text wherever it stands; None for what may be right."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"= {value}: a finite number is needed"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"is a number of {len(f'{abs(value):x}')} hexadecimal digits: at most {LARGEST_INTEGER} is possible"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        return "has characters that no text has (NUL, or bytes that are not UTF-8)"
    return None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is no table or array, and of the keys themselves."""
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
    """The resolved configuration as plain JSON values, defaults included; ``parse`` takes it back."""
    return config.model_dump(mode="json")


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    names = key.strip().split(".")
    if any(ord(sign) < 32 and sign != "\t" for sign in override):
        raise ConfigError(f"--set {one_line(override)}: is more than one line; use one --set for each value")
    if len(override) > LONGEST_OVERRIDE:
        raise ConfigError(f"--set {one_line(override[:40])}...: is too long; write it into the file")
    override = one_line(override)
    if not separator or not all(names):
        raise ConfigError(f"--set {override}: write it as section.field=value")
    section: Any = values
    for name in names[:-1]:
        section = section.setdefault(name, {}) if isinstance(section, dict) else _table(section, name, override)
        if not isinstance(section, (dict, list)):
            raise ConfigError(f"--set {override}: '{name}' is a value, not a section")
    if isinstance(section, list):
        raise _numbered(section, names[-1], override)
    section[names[-1]] = _value(text.strip(), override)


def _table(tables: list[Any], name: str, override: str) -> Any:
    """The table with the number ``name`` of an array of tables."""
    numbered = {str(number): table for number, table in enumerate(tables) if isinstance(table, dict)}
    if name not in numbered:
        raise _numbered(tables, name, override)
    return numbered[name]


def _numbered(tables: list[Any], name: str, override: str) -> ConfigError:
    there = f"a table (0 to {len(tables) - 1})"
    return ConfigError(f"--set {override}: needs the number of {there} in place of '{name}', and then its key")


def _value(text: str, override: str) -> Any:
    """The TOML value in ``text``; a bare word is a string, so that a path needs no quotes in a shell."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override[:80]}: cannot be read ({one_line(error)})") from None


def _sentence(error: ValidationError, kind: type[Section], single: Sequence[str]) -> str:
    first = error.errors(include_url=False)[0]
    written = [part for before, part in zip(("", *first["loc"]), first["loc"], strict=False) if before not in single]
    key = ".".join(map(str, written)) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_known(kind, first['loc'])}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"'{key}': {message}" if first["loc"] else message
    found = repr(first["input"])
    shown = found if len(found) <= LONGEST_SHOWN else f"{found[:LONGEST_SHOWN]}..."
    return f"'{key}' = {shown}: {message[:1].lower()}{message[1:]}"


def _known(kind: type[Section], location: tuple[int | str, ...]) -> str:
    """The keys that exist where the unknown one was written, when they can be told from the class."""
    section: Any = kind
    for name in location[:-1]:
        if isinstance(name, int):
            section = next(iter(get_args(section)), None)
            continue
        field = getattr(section, "model_fields", {}).get(name)
        section = field.annotation if field else None
    names = getattr(section, "model_fields", None)
    return f"; known there: {', '.join(names)}" if names else ""
