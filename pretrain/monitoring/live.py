"""``sesame watch``: a view of a run in a terminal while it goes on, made from the files that the run writes."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live

from sesame.configs.log_lines import timed
from sesame.pretrain.monitoring.record import Row, RunFiles
from sesame.pretrain.monitoring.summary import state
from sesame.pretrain.monitoring.view import event_line, step_of, time_left, view

SECONDS = 1.0
"""Between two looks at the files."""


def watch(folder: Path, console: Console, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a run until it ends: a live view in a terminal, else a line for each report and event.

    Raises:
        SesameError: it is not the folder of a run.
    """
    run = RunFiles(folder)
    follow = _in_terminal if console.is_terminal else _in_lines
    follow(run, console, sleep)
    console.print(f"{folder}: {state(run) or 'ended'}", markup=False, soft_wrap=True)


def is_over(run: RunFiles) -> bool:
    """Return whether nothing more is to come. A run on another machine that was killed does not say so; it is watched
    until that is interrupted."""
    # A run of an older version says nothing of its start and end, but locks its folder.
    is_old_and_over = not run.starts and not (run.folder / ".lock").exists()
    return run.end is not None or run.is_killed or is_old_and_over


def _in_terminal(run: RunFiles, console: Console, sleep: Callable[[float], None]) -> None:
    with Live(view(run, console.width), console=console, auto_refresh=False) as live:
        while not is_over(run):
            sleep(SECONDS)
            run.update()
            live.update(view(run, console.width), refresh=True)
        run.update()
        live.update(view(run, console.width), refresh=True)


def _in_lines(run: RunFiles, console: Console, sleep: Callable[[float], None]) -> None:
    """Print the last report and what is new from then on."""
    printed = [max(0, len(run.reports) - 1), max(0, len(run.validations) - 1), max(0, len(run.events) - 1)]
    while True:
        over = is_over(run)
        if over:
            # What was written between the last look and the end.
            run.update()
        for number, (rows, line) in enumerate(
            ((run.reports, _report_line), (run.validations, _validation_line), (run.events, _event_line))
        ):
            # A resumed run removes the reports of steps that it takes again.
            printed[number] = min(printed[number], len(rows))
            for row in rows[printed[number] :]:
                console.print(timed(line(run, row), is_terminal=False), markup=False, soft_wrap=True)
            printed[number] = len(rows)
        if over:
            return
        sleep(SECONDS)
        run.update()


def _report_line(run: RunFiles, row: Row) -> str:
    losses = " ".join(f"{name} {loss:.3f}" for name, loss in row["train"].items())
    left = time_left(run) if row is run.reports[-1] else ""
    speed = f"{row.get('tokens_per_second', 0):,.0f} tokens/s"
    return " | ".join([f"step {step_of(run, row['step'])}", losses, speed, *([f"{left} left"] if left else [])])


def _validation_line(run: RunFiles, row: Row) -> str:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in row["validation"].items())
    return f"step {row['step']}: validation {losses}"


def _event_line(run: RunFiles, row: Row) -> str:
    return event_line(row)
