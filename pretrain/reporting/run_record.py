"""``run.jsonl``: one line when a run starts or resumes, and one when it ends, for those who read the run's folder.

    {"start": {"step": 0, "time": "2026-01-01T12:00:00+00:00", "host": ..., "process": ..., "config": {...}, ...}}
    {"end": {"time": ..., "reason": "finished"}}

The reason is ``finished``, ``stopped: WHY`` or ``failed: WHY``; a run that was killed has no such line.
"""

import json
import os
import platform
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sesame.configs.errors import one_line
from sesame.configs.json_lines import read_rows
from sesame.configs.machine import processor
from sesame.configs.stopping import Stopped
from sesame.configs.storage import append_line

NAME = "run.jsonl"
PACKAGES = ("sesame", "torch", "deepspeed", "megatron-core", "numpy")
"""Those that compute in a run of ``sesame pretrain``."""


def write_start(output: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Add a line about a run that starts or resumes at ``step``."""
    start = {"step": step, "time": _now(), "host": socket.gethostname(), "process": os.getpid(), **facts}
    _add(output, {"start": start})


@contextmanager
def recorded_end(output: Path) -> Iterator[None]:
    """Add a line about the end of the run within it, if that run has written that it started."""
    try:
        yield
    except Stopped as stopped:
        _end(output, f"stopped: {one_line(stopped)}")
        raise
    except BaseException as error:
        # A full disk may be the reason, and is not to hide it.
        with suppress(OSError):
            _end(output, f"failed: {one_line(error) or type(error).__name__}")
        raise
    _end(output, "finished")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of those ``packages`` that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _end(output: Path, reason: str) -> None:
    if _is_open(output):
        _add(output, {"end": {"time": _now(), "reason": reason}})


def _is_open(output: Path) -> bool:
    """Return whether the last line is of the start of a run of this process."""
    rows = read_rows(output / NAME)
    start = rows[-1].get("start") if rows else None
    own = {"process": os.getpid(), "host": socket.gethostname()}
    return isinstance(start, dict) and own.items() <= start.items()


def _add(output: Path, line: Mapping[str, Any]) -> None:
    path = output / NAME
    # A line that a killed run has not completed must not swallow this one.
    is_torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    append_line(path, "\n" * is_torn + json.dumps(line))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
