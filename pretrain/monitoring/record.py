"""The files of a run's folder, read once or followed while they grow."""

import json
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sesame.configs.errors import SesameError
from sesame.configs.json_lines import Row, parse_row


class LineFile:
    """JSON lines that another process appends to; what is not a complete object is left out."""

    def __init__(self, path: Path):
        self.path = path
        self._position = self._inode = 0

    def read(self) -> tuple[list[Row], bool]:
        """Return the lines since the last call, and whether the file was replaced, so that they are all there are."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                is_replaced = status.st_ino != self._inode or status.st_size < self._position
                self._position, self._inode = (0 if is_replaced else self._position), status.st_ino
                file.seek(self._position)
                content = file.read()
        except FileNotFoundError:
            return [], False
        complete, newline, _ = content.rpartition(b"\n")
        self._position += len(complete) + len(newline)
        rows = [row for line in complete.split(b"\n") if (row := parse_row(line)) is not None]
        return rows, is_replaced


class RunFiles:
    """A run by its files; ``update`` reads what was added."""

    def __init__(self, folder: Path):
        """
        Raises:
            SesameError: it is not the folder of a run.
        """
        if not (folder / "metrics.jsonl").is_file() and not (folder / "run.jsonl").is_file():
            raise SesameError(
                f"{folder}: has no metrics.jsonl, so it is not the output folder of `sesame pretrain`; give that folder"
            )
        self.folder = folder
        self.reports: list[Row] = []
        """Lines with the metrics of training."""
        self.validations: list[Row] = []
        self.starts: list[Row] = []
        """Facts of each start or resumption; empty for runs of older versions."""
        self.end: Row | None = None
        """How the run ended; None while it runs, and if it was killed."""
        self.events: list[Row] = []
        """In the order in which they happened."""
        self._files = {name: LineFile(folder / f"{name}.jsonl") for name in ("metrics", "run", "events")}
        self.update()

    def update(self) -> bool:
        """Read what was added since the last call; return whether there was anything."""
        is_new = False
        for name, file in self._files.items():
            rows, is_replaced = file.read()
            if is_replaced:
                FORGET[name](self)
            ADD[name](self, rows)
            is_new = is_new or bool(rows)
        return is_new

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the last start, or of the newest checkpoint of an older version."""
        if self.starts:
            return self.starts[-1].get("config", {})
        for path in reversed(self.checkpoints):
            try:
                return json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))["config"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return {}

    @property
    def planned_steps(self) -> int | None:
        """Steps after which the run ends if no limit of minutes comes first; None if there are none."""
        # A run of an older version has only its limit of steps.
        steps = (self.starts or [{}])[-1].get("planned_steps", self.config.get("steps"))
        return steps if isinstance(steps, int) else None

    @property
    def used_seconds(self) -> float:
        """Training time up to the last report, of which ``stop.minutes`` is the limit."""
        start, last = (self.starts or [{}])[-1], (self.reports or [{}])[-1]
        # Before the first report of a resumed run the last one is of an earlier start.
        is_own = last.get("step", 0) > start.get("step", 0)
        return float(start.get("used_seconds", 0.0)) + (float(last.get("seconds", 0.0)) if is_own else 0.0)

    @property
    def checkpoints(self) -> list[Path]:
        """Folders of complete checkpoints, the newest last."""
        folders = (path.parent for path in self.folder.glob("checkpoints/step-*/checkpoint.json"))
        steps = {folder.name.removeprefix("step-"): folder for folder in folders}
        # Others are under way, or were renamed.
        return [steps[step] for step in sorted(filter(str.isdecimal, steps), key=int)]

    @property
    def step(self) -> int:
        """The last reported step."""
        rows = (self.reports or [{}])[-1], (self.validations or [{}])[-1], (self.starts or [{}])[-1]
        return max(int(row.get("step", 0)) for row in rows)

    @property
    def is_killed(self) -> bool:
        """Whether the process that wrote the last start, on this machine, is gone without an end."""
        if self.end is not None or not self.starts or self.starts[-1].get("host") != socket.gethostname():
            return False
        return not Path(f"/proc/{self.starts[-1].get('process')}").exists()

    def objectives(self, part: str) -> list[str]:
        """Names of the losses in ``train`` or ``validation``."""
        rows = self.reports if part == "train" else self.validations
        return list(dict.fromkeys(name for row in rows for name in row[part]))

    def baseline(self, objective: str) -> float | None:
        """Unigram baseline of a validation loss, in nats."""
        value = (self.starts or [{}])[-1].get("unigram_baseline", {}).get(objective)
        return value if isinstance(value, float) else None


def values(rows: Iterable[Row], *keys: str) -> list[tuple[float, float]]:
    """Return (step, number) of each row that has a number under ``keys``."""
    found = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            found.append((float(row["step"]), float(value)))
    return found


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each folder: its last parts, as few as make it unlike the others."""
    parts = [folder.resolve().parts for folder in folders]
    count = 1
    while count < max(map(len, parts)) and len({each[-count:] for each in parts}) < len(set(parts)):
        count += 1
    return ["/".join(each[-count:]) for each in parts]


def _add_metrics(run: RunFiles, rows: Sequence[Row]) -> None:
    rows = [row for row in rows if isinstance(row.get("step"), int)]
    run.reports += [row for row in rows if isinstance(row.get("train"), dict)]
    run.validations += [row for row in rows if isinstance(row.get("validation"), dict)]


def _add_starts(run: RunFiles, rows: Sequence[Row]) -> None:
    for row in rows:
        if isinstance(row.get("start"), dict):
            run.starts.append(row["start"])
            run.end = None
        elif isinstance(row.get("end"), dict):
            run.end = row["end"]


def _add_events(run: RunFiles, rows: Sequence[Row]) -> None:
    run.events += [row for row in rows if isinstance(row.get("step"), int)]


def _forget_metrics(run: RunFiles) -> None:
    run.reports, run.validations = [], []


def _forget_starts(run: RunFiles) -> None:
    run.starts, run.end = [], None


def _forget_events(run: RunFiles) -> None:
    run.events = []


ADD = {"metrics": _add_metrics, "run": _add_starts, "events": _add_events}
"""What the lines of a file add to a run."""
FORGET = {"metrics": _forget_metrics, "run": _forget_starts, "events": _forget_events}
"""For a file that was replaced: a resumed run removes reports of steps that it takes again."""
