"""Commands about runs: a page and a live view."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Output folders of `sesame pretrain`.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; default: report.html in the first folder.")
    ] = None,
) -> None:
    """Write an HTML page about one run or several: curves, throughput, events, settings and their differences.

    Example: sesame report runs/demo/pretrain

    The page needs no network and can be sent by mail. It also works while the run goes on.
    """
    from sesame.pretrain.monitoring.page import write_page

    print(f"report: {write_page(runs, output)}")


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of `sesame pretrain`.")],
) -> None:
    """Watch a run in the terminal until it ends: progress, losses, speed, times, events. Ctrl-C ends only the view.

    Example: sesame watch runs/demo/pretrain

    It reads the files of the folder, from any machine that has it. Without a terminal it prints lines.
    """
    from contextlib import suppress

    from rich.console import Console

    from sesame.pretrain.monitoring.live import watch

    with suppress(KeyboardInterrupt):
        watch(run, Console(highlight=False))
