"""What the command line changes in a configuration file."""

import json
from collections.abc import Sequence
from pathlib import Path

from configs.errors import ConfigError


def folder(text: str) -> Path:
    """The folder of ``--output``.

    Raises:
        ConfigError: it is empty, which would be the folder that the command was started in.
    """
    if not text.strip():
        raise ConfigError("--output is empty; name a folder")
    return Path(text)


def with_output(overrides: Sequence[str] | None, output: Path | str | None) -> list[str]:
    """The overrides, and ``--output`` as one more; quoted, because a folder may be named 7."""
    changes = list(overrides or ())
    return changes if output is None else [*changes, f"output={json.dumps(str(output), ensure_ascii=False)}"]
