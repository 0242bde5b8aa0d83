"""Files of JSON lines to which a run appends, one object a line; a kill can leave an incomplete line."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sesame.configs.storage import keep_lines

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the objects of a file, without lines that are damaged; nothing if there is no such file."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [row for line in lines if (row := parse_row(line)) is not None]


def parse_row(line: bytes) -> Row | None:
    """Return the object of a line, None if the line is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON has it: None, which is written as null, if it is not finite."""
    return value if math.isfinite(value) else None


def keep_rows(path: Path, is_kept: Callable[[Row], bool]) -> None:
    """Remove damaged lines and the other rows of a file, atomically; nothing if there is no such file."""
    keep_lines(path, lambda line: (row := parse_row(line)) is not None and is_kept(row))
