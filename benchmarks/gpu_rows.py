"""Rows that another process measures; one that hangs or breaks its device costs only its own row."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

ROW_SECONDS = 150.0
"""Longest time of a row, with the start of its process."""
OVERTIME = 60.0
"""Seconds that a row may go on after the deadline."""


def measure(
    command: Sequence[str], names: Sequence[str], deadline: float, row_seconds: float = ROW_SECONDS
) -> dict[str, Any]:
    """Return what ``command SECONDS NAME ...`` prints of each row; it is started again after a row that ends it.

    Args:
        deadline: of ``time.monotonic``, after which no row is begun.
    """
    results: dict[str, Any] = {}
    while (left := [name for name in names if name not in results]) and time.monotonic() < deadline:
        arguments = [*command, f"{deadline - time.monotonic():.0f}", *left]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        reason = _read(child, results, len(left), deadline, row_seconds)
        child.kill()
        child.wait()
        if reason:
            results[next(name for name in left if name not in results)] = {"error": reason}
    not_begun = {"error": "not begun, because the time is up"}
    return {name: results.get(name, not_begun) for name in names}


def _read(child: subprocess.Popen[str], results: dict[str, Any], rows: int, deadline: float, row_seconds: float) -> str:
    """Collect the rows of a process; return why the next one has no result, empty if it can be begun anew."""
    lines: queue.Queue[str | None] = queue.Queue()
    assert child.stdout is not None
    threading.Thread(target=_forward, args=(child.stdout, lines), daemon=True).start()
    read = 0
    while read < rows:
        try:
            limit = min(row_seconds, deadline + OVERTIME - time.monotonic())
            line = lines.get(timeout=max(0.0, limit))
        except queue.Empty:
            return f"ended, because it took more than {max(0.0, limit):.0f} seconds"
        if line is None:
            return "" if read and _broke(results) else f"its process ended with code {child.wait()}"
        print(line.rstrip(), flush=True)
        if line.startswith("ROW "):
            name, result = json.loads(line.removeprefix("ROW "))
            results[name] = result
            read += 1
    return ""


def _broke(results: dict[str, Any]) -> bool:
    return bool(list(results.values())[-1].get("breaks_device"))


def _forward(stream: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
