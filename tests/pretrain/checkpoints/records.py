"""Changes of a checkpoint's record."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_record(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record of a checkpoint and compute its checksum again."""
    values = json.loads((folder / "checkpoint.json").read_text())
    change(values)
    del values["record_sha256"]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(values | {"record_sha256": digest}))


def as_format_1(folder: Path, change: Callable[[dict[str, Any]], None] = lambda values: None) -> None:
    """Rewrite the record of a checkpoint in format 1, which had no checksum of its own."""
    values = json.loads((folder / "checkpoint.json").read_text())
    for name in ("record_sha256", "dataset_sha256", "dataset_first_sample", "changes"):
        del values[name]
    for section in ("resume",):
        del values["config"][section]
    change(values)
    (folder / "checkpoint.json").write_text(json.dumps(values | {"format_version": 1}))
