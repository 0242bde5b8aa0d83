"""JSON files of unknown origin: one object, with limits on size and numbers, and without duplicate keys or NaN."""

import json
from pathlib import Path
from typing import Any, NoReturn

from sesame.configs.errors import SesameError
from sesame.configs.file_errors import read_file

LONGEST_INTEGER = 1000
"""Digits; ``int`` takes quadratic time."""


def read_json_object(file: Path, error_type: type[SesameError], advice: str) -> dict[str, Any]:
    """Read the JSON object in ``file``.

    Args:
        error_type: exception to raise.
        advice: end of each message: what the user can do.

    Raises:
        SesameError: an ``error_type``; the file is missing, not a regular file, too large, or not one valid object.
    """
    return parse_json_object(read_file(file, error_type, advice), file, error_type, advice)


def parse_json_object(content: bytes, file: Path, error_type: type[SesameError], advice: str) -> dict[str, Any]:
    """Parse ``content``, which was read from ``file``; see :func:`read_json_object`."""
    try:
        values = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=unique_keys,
            parse_constant=_reject_constant,
            parse_int=_parse_integer,
        )
    except RecursionError:
        raise error_type(f"{file}: is nested too deeply to be parsed as JSON; {advice}") from None
    except ValueError as error:
        raise error_type(f"{file}: is not valid JSON ({error}); {advice}") from None
    if not isinstance(values, dict):
        raise error_type(f"{file}: is not a JSON object; {advice}")
    return values


def abbreviate(value: Any, longest: int = 60) -> str:
    """Return ``repr(value)`` for a message, cut to ``longest`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a very long {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}..."


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, as an ``object_pairs_hook``.

    Raises:
        ValueError: it has a key twice, of which ``json`` alone would keep the last one.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in values if keys.count(key) > 1)!r}")
    return values


def _parse_integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER:
        raise ValueError(f"integer of {len(digits)} digits")
    return int(digits)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
