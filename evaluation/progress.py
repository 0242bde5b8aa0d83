"""Progress display of an evaluation: a live table on a terminal; in a log a line for each finished job, and one every
few minutes for each long one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Table

from sesame.configs.durations import duration
from sesame.configs.log_lines import timed
from sesame.evaluation.results.result import Result

LINE_SECONDS = 180.0
"""After which a log has a line for each job that goes on."""


@dataclass
class _Running:
    number: int
    started: float
    share: float = 0.0
    """That is finished."""


class Progress:
    """Context manager that shows the jobs of some workers, and the time that is left.

    The time is estimated from the costs of the jobs and the time of those that were computed.
    """

    def __init__(self, titles: Sequence[str], costs: Sequence[float], workers: int = 1):
        """
        Args:
            costs: of each job, proportional to its time.
        """
        self.console = Console(highlight=False)
        self.titles, self.costs, self.workers = titles, list(costs), workers
        self.rate: float | None = None
        """Seconds for each unit of cost, until a job has ended."""
        self.spent = self.computed = 0.0
        self.waiting = set(range(len(titles)))
        """Numbers of the jobs that have not ended."""
        self.running: dict[int, _Running] = {}
        """By worker."""
        self.last_line = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.table = Table(
            *columns,
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.total = self.table.add_task("jobs", total=len(titles), left="")
        self.rows = [self.table.add_task("", total=None, left="", visible=False) for _ in range(workers)]

    def __enter__(self) -> "Progress":
        self.table.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.table.stop()

    def begin(self, worker: int, job: Any) -> None:
        """Show that a worker starts a job, whose ``number`` is its place among the titles."""
        self.running[worker] = _Running(job.number, time.monotonic())
        name = f"{worker + 1}  " if self.workers > 1 else ""
        description = f"{name}{self.titles[job.number]}"
        self.table.reset(self.rows[worker], description=description, total=None, visible=True)

    def advance(self, worker: int, step: int, steps: int) -> None:
        """Show that ``step`` of ``steps`` of a worker's job are finished."""
        self.running[worker].share = step / steps
        self.table.update(self.rows[worker], completed=step, total=steps)
        self._show_left()
        if not self.console.is_terminal and time.monotonic() - self.last_line >= LINE_SECONDS:
            left = f" ({self.left} left for all)" if self.left else ""
            going_on = (f"{self.titles[job.number]}: {100 * job.share:.0f} %" for job in self.running.values())
            self.print(f"{'; '.join(going_on)}{left}")

    def fail(self, worker: int, reason: str) -> None:
        """Print why a worker's job has no result yet."""
        job = self.running.pop(worker)
        self.print(f"{self.titles[job.number]}: {reason}")

    def end(self, number: int, result: Result, status: str, *, worker: int | None = None) -> None:
        """Finish a job and print its scores (times 100), ``status`` and the time that is left.

        Args:
            worker: that computed it; None: it was computed before.
        """
        if worker is not None:
            job = self.running.pop(worker)
            self.spent += time.monotonic() - job.started
            self.computed += self.costs[number]
        self.waiting.discard(number)
        done = len(self.titles) - len(self.waiting)
        self.table.update(self.total, completed=done)
        found = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.scores.items())
        left = f"; {self.left} left" if self.left else ""
        self.print(f"[{done}/{len(self.titles)}] {self.titles[number]}: {result.error or found} ({status}{left})")
        self._show_left()

    @property
    def left(self) -> str:
        """The time that is left in words; empty if nothing is, or nothing is known of it."""
        rate = self.spent / self.computed if self.computed else self.rate
        shares = {job.number: job.share for job in self.running.values()}
        costs = [self.costs[number] * (1 - shares.get(number, 0.0)) for number in self.waiting]
        return f"about {duration(time_left(costs, rate, self.workers))}" if rate is not None and costs else ""

    def print(self, line: str) -> None:
        """Print a line above the table."""
        self.last_line = time.monotonic()
        self.console.print(timed(line, is_terminal=self.console.is_terminal), markup=False, soft_wrap=True)

    def _show_left(self) -> None:
        self.table.update(self.total, left=f"{self.left} left" if self.left else "")


def time_left(costs: Sequence[float], rate: float, workers: int) -> float:
    """Seconds for jobs of these ``costs``, at ``rate`` seconds for each unit of cost."""
    return rate * max(sum(costs) / workers, max(costs, default=0.0))
