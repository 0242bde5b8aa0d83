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
