"""JSON files of unknown origin: one object, with limits on size and numbers, and without duplicate keys or NaN."""

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from sesame.configs.errors import SesameError
from sesame.configs.file_errors import file_errors_as

LARGEST_FILE = 2**26
"""Bytes."""
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
    with file_errors_as(error_type, file, "read"):
        try:
            status = file.stat()
        except FileNotFoundError:
            raise error_type(f"{file}: no such file; {advice}") from None
        if not stat.S_ISREG(status.st_mode):
            raise error_type(f"{file}: is not a regular file; {advice}")
        if status.st_size > LARGEST_FILE:
            raise error_type(f"{file}: has {status.st_size:,} bytes, more than the limit of {LARGEST_FILE:,}; {advice}")
        content = file.read_bytes()
    return parse_json_object(content, file, error_type, advice)


def parse_json_object(content: bytes, file: Path, error_type: type[SesameError], advice: str) -> dict[str, Any]:
    """Parse ``content``, which was read from ``file``; see :func:`read_json_object`."""
    try:
        values = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
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


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
