"""The options of ``sesame doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from sesame.launch.overrides import output_folder


def doctor(
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=output_folder, help="Where runs will be written (runs)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the speeds as machine.json, for sesame plan --machine.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure for half a minute instead of two.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes on this machine; otherwise one for each GPU.")
    ] = None,
) -> None:
    """Check machines before a run: versions, devices, limits, speeds, the network, and a short training.

    Example: sesame doctor --quick

    On the machines of a Slurm job: srun --ntasks-per-node=1 sesame doctor. It ends with what to change; the exit code
    is 1 if a run could not start, else 0.
    """
    from sesame.launch.doctor.start import start

    raise typer.Exit(start(folder or Path("runs"), output, processes, quick=quick))
