"""Reading the files of a tokenizer, with errors that name the file."""

from pathlib import Path
from typing import Any

from sesame.configs.errors import ConfigError
from sesame.configs.strict_json import parse_json_object


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the tokenizer model cannot be read ({error.strerror})") from None


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, its line ends unchanged.

    Raises:
        ConfigError: it cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}; copy it again") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ConfigError: the file cannot be read or is not a JSON object.
    """
    return parse_json_object(read_bytes(path), path, ConfigError, "copy it again")


def read_optional_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, empty if there is no file."""
    return read_object(path) if path.is_file() else {}
