"""JSON files from elsewhere: an object within limits, each key once, numbers that are numbers."""

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from configs.errors import ConversionError
from pretrain.huggingface.aside import sentences

LARGEST = 2**26
"""Bytes of a file; the index of a thousand shards has a hundredth of it."""
DIGITS = 1000
"""Of a number."""


def json_object(file: Path) -> dict[str, Any]:
    """The object in ``file``.

    Raises:
        ConversionError: it is missing, no regular file, too large or no JSON object, or says a key twice.
    """
    with sentences(file, "read"):
        try:
            found = file.stat()
        except FileNotFoundError:
            raise ConversionError(f"{file}: is missing; give the folder of a model in transformers' layout") from None
        if not stat.S_ISREG(found.st_mode):
            raise ConversionError(f"{file}: is no regular file; give the folder of a model in transformers' layout")
        if found.st_size > LARGEST:
            raise ConversionError(
                f"{file}: has {found.st_size} bytes, more than the {LARGEST} that are read; copy it anew"
            )
        content = file.read_bytes()
    try:
        values = json.loads(
            content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_number
        )
    except RecursionError:
        raise ConversionError(f"{file}: is nested too deeply to be read as JSON; copy it anew") from None
    except ValueError as error:
        raise ConversionError(f"{file}: cannot be read as JSON ({error}); copy it anew") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{file}: is no JSON object; copy it anew")
    return values


def shown(value: Any, longest: int = 60) -> str:
    """``value`` in a message, on one line and not longer than a line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a very long {type(value).__name__}"
    return text if len(text) <= longest else f"{text[:longest]}..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in values if keys.count(key) > 1)!r} is there twice")
    return values


def _number(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
