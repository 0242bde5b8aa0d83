"""Progress display of an evaluation: progress bars on a terminal, and one line for each finished run."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sesame.configs.log_lines import timed
from sesame.evaluation.results import Result


class Progress:
    """Context manager; call ``begin``, ``advance`` and ``end`` for each of ``runs`` fine-tuning runs."""

    def __init__(self, runs: int):
        self.console = Console(highlight=False)
        self.runs = runs
        self.done = 0
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.total = self.bar.add_task("fine-tuning", total=runs)
        self.current = self.bar.add_task("", total=None)
        self.title = ""

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.bar.stop()

    def begin(self, title: str) -> None:
        """Start the next run."""
        self.title = title
        self.bar.reset(self.current, description=title, total=None)

    def advance(self, step: int, steps: int) -> None:
        """Show that ``step`` of ``steps`` are finished in the current run."""
        self.bar.update(self.current, completed=step, total=steps)

    def end(self, result: Result, status: str) -> None:
        """Finish the current run and print its scores (times 100) and ``status``."""
        self.done += 1
        self.bar.update(self.total, completed=self.done)
        scores = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.scores.items())
        line = f"[{self.done}/{self.runs}] {self.title}: {scores} ({status})"
        self.console.print(timed(line, is_terminal=self.console.is_terminal), markup=False, soft_wrap=True)
