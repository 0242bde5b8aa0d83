"""Start a replay, in as many processes as the run had."""

import os
import sys
from pathlib import Path

from sesame.launch.library_warnings import ignore_library_warnings
from sesame.launch.place import machine
from sesame.launch.processes import supervise


def start(run: Path, step: int) -> int:
    """Compute ``step`` of a run again and print what was found; return the exit code: 1 if there is a difference.

    Raises:
        SesameError: there is nothing to compare, or the dataset or a checkpoint does not fit.
    """
    ignore_library_warnings()
    from sesame.pretrain.replay import plan, replay

    planned = plan(run, step)
    if "RANK" not in os.environ and planned.processes > 1:
        command = [sys.executable, "-m", "sesame", "replay", str(run), "--step", str(step)]
        return supervise(command, machine(planned.processes))
    from sesame.pretrain.parallel.mesh import Mesh

    mesh = Mesh(planned.config.parallel)
    try:
        result = replay(planned, mesh)
        if mesh.is_rank_zero:
            print("\n".join(result.lines), flush=True)
        mesh.barrier()
    finally:
        mesh.close()
    return 0 if result.is_same else 1
