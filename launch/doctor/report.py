"""What ``sesame doctor`` prints: a table that grows on a terminal, lines with the time of day in a log, and the list of
what to change."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sesame.configs.log_lines import timed
from sesame.launch.doctor.check import Check, Finding, Level, Verdict

STYLES = {Level.GOOD: "green", Level.SLOW: "yellow", Level.BAD: "bold red", Level.LEFT_OUT: "dim"}


class Report:
    """Context manager; ``show`` each verdict, then ``summarize``."""

    def __init__(self, console: Console, names: list[str]):
        """
        Args:
            names: of the checks that will be shown, in order.
        """
        self.console = console
        self.findings: list[tuple[str, Finding]] = []
        self._waiting = list(names)
        self._rows: list[tuple[str, Verdict]] = []
        self._live = Live(self._table(), console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._waiting = []
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def show(self, check: Check, verdict: Verdict) -> None:
        """Show the verdict of a check."""
        self._waiting = self._waiting[1:]
        self._rows.append((check.name, verdict))
        self.findings += [(check.name, finding) for finding in verdict.findings]
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        line = f"{check.name}: {verdict.level.value}: {verdict.text}"
        self.console.print(timed(line, is_terminal=False), soft_wrap=True, markup=False)

    def summarize(self) -> Level:
        """Print the findings with their ways out, the worst first, and return the worst level."""
        level = Verdict("", [finding for _, finding in self.findings]).level
        for each in (Level.BAD, Level.SLOW):
            chosen = [(name, finding) for name, finding in self.findings if finding.level is each]
            if chosen:
                self.console.print(f"{each.value}:", style=STYLES[each])
            for name, finding in chosen:
                self.console.print(f"  {name}: {finding.what}\n    -> {finding.change}", soft_wrap=True, markup=False)
        self.console.print(SUMMARIES[level])
        return level

    def _table(self) -> Table:
        table = Table(show_edge=False, pad_edge=False)
        table.add_column("check", no_wrap=True)
        table.add_column("")
        table.add_column("measured", overflow="fold")
        for name, verdict in self._rows:
            table.add_row(name, Text(verdict.level.value, STYLES[verdict.level]), Text(verdict.text))
        if self._waiting:
            table.add_row(self._waiting[0], Text("..."), "")
        return table


SUMMARIES = {
    Level.GOOD: "a run can start; nothing to change",
    Level.SLOW: "a run can start",
    Level.BAD: "a run cannot start, or not as it should: change what is listed above",
}
