"""Conversion of command-line options to overrides of a configuration file."""

import json
from collections.abc import Sequence
from pathlib import Path

from sesame.configs.errors import ConfigError


def output_folder(text: str) -> Path:
    """Parse the value of ``--output``.

    Raises:
        ConfigError: it is empty, which would mean the current folder.
    """
    if not text.strip():
        raise ConfigError("--output is empty; name a folder")
    return Path(text)


def with_folders(overrides: Sequence[str] | None, **folders: Path | str | None) -> list[str]:
    """Append an override for each folder that is not None; quoted, because a folder may have a name like 7."""
    quoted = [
        f"{key}={json.dumps(str(folder), ensure_ascii=False)}" for key, folder in folders.items() if folder is not None
    ]
    return [*(overrides or ()), *quoted]
