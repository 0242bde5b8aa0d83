"""Progress display of an evaluation: progress bars on a terminal, and one line for each finished job."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from sesame.configs.log_lines import timed
from sesame.evaluation.results.result import Result


class Progress:
    """Context manager; call ``begin``, ``advance`` and ``end`` for each job.

    The time that is left is estimated from the costs of the jobs and the time of those that were computed.
    """

    def __init__(self, costs: Sequence[float]):
        """
        Args:
            costs: of each job, proportional to its time.
        """
        self.console = Console(highlight=False)
        self.costs = list(costs)
        self.done = 0
        self.spent = self.started = 0.0
        self.computed = 0.0
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.total = self.bar.add_task("jobs", total=len(self.costs))
        self.current = self.bar.add_task("", total=None)
        self.title = ""

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.bar.stop()

    def begin(self, title: str) -> None:
        """Start the next job."""
        self.title, self.started = title, time.monotonic()
        self.bar.reset(self.current, description=title, total=None)

    def advance(self, step: int, steps: int) -> None:
        """Show that ``step`` of ``steps`` are finished in the current job."""
        self.bar.update(self.current, completed=step, total=steps)

    def end(self, result: Result, status: str, *, is_computed: bool = True) -> None:
        """Finish the current job and print its scores (times 100), ``status`` and the time that is left."""
        if is_computed:
            self.spent += time.monotonic() - self.started
            self.computed += self.costs[self.done]
        self.done += 1
        self.bar.update(self.total, completed=self.done)
        found = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.scores.items())
        line = f"[{self.done}/{len(self.costs)}] {self.title}: {result.error or found} ({status}{self._left()})"
        self.console.print(timed(line, is_terminal=self.console.is_terminal), markup=False, soft_wrap=True)

    def _left(self) -> str:
        remaining = sum(self.costs[self.done :])
        if not remaining or not self.computed:
            return ""
        seconds = self.spent / self.computed * remaining
        return f"; about {seconds:.0f} s left" if seconds < 90 else f"; about {seconds / 60:.0f} min left"
