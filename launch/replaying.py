"""Start a replay, in as many processes as the run had."""

import os
from pathlib import Path

from sesame.configs.errors import ConfigError
from sesame.launch.library_warnings import ignore_library_warnings
from sesame.launch.place import machine
from sesame.launch.processes import SESAME, supervise


def start(run: Path, step: int) -> int:
    """Compute ``step`` of a run again and print what was found; return the exit code: 1 if there is a difference.

    Raises:
        SesameError: there is nothing to compare, or the dataset or a checkpoint does not fit.
    """
    ignore_library_warnings()
    from sesame.pretrain.replay import plan, replay

    planned = plan(run, step)
    if "RANK" not in os.environ and planned.processes > 1:
        place = machine(1, command=f"sesame replay {run} --step {step}")
        if planned.processes % place.machines:
            raise ConfigError(
                f"{run}: was computed by {planned.processes} processes, which {place.machines} machines cannot share "
                "equally; start the replay on another number of machines"
            )
        place = place._replace(processes=planned.processes // place.machines)
        return supervise([*SESAME, "replay", str(run), "--step", str(step)], place)
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
