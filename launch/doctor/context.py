"""Where a process of ``sesame doctor`` stands, and what it measures with."""

import importlib.metadata
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sesame.launch.doctor.peers import Peers


def _multiply(left: Any, right: Any) -> Any:
    return left @ right


class Instruments(NamedTuple):
    """What is measured with; tests plant faults here."""

    clock: Callable[[], float] = time.time
    """Seconds since the epoch."""
    multiply: Callable[[Any, Any], Any] = _multiply
    """Matrix product of two tensors."""
    version: Callable[[str], str] = importlib.metadata.version
    """Version of an installed distribution."""
    shared_memory: Path = Path("/dev/shm")
    ports: tuple[int, ...] = ()
    """Further ports that must be free."""


@dataclass
class Context:
    """One process: its place, its folder, and the connection to the others."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    folder: Path
    """Where runs will be written."""
    quick: bool
    peers: Peers
    closing: ExitStack
    """What is undone when the command ends, however it ends."""
    instruments: Instruments
    host: str = field(default_factory=lambda: os.environ.get("SLURMD_NODENAME") or socket.gethostname())
    """The name that the scheduler knows this machine by."""
    mesh: Any = None
    """The ``Mesh`` of all processes, once they are connected."""

    @property
    def cores(self) -> int:
        """CPU threads of this process, as a run uses them."""
        return max(1, len(os.sched_getaffinity(0)) // self.local_world)


def place(variables: Mapping[str, str] = os.environ) -> tuple[int, int, int, int]:
    """(rank, world, local rank, local world) by the variables of torchrun; a process without them is alone."""
    rank, world = int(variables.get("RANK", 0)), int(variables.get("WORLD_SIZE", 1))
    return rank, world, int(variables.get("LOCAL_RANK", 0)), int(variables.get("LOCAL_WORLD_SIZE", world))


def device(context: Context) -> Any:
    """The ``torch.device`` of this process."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    chosen = torch.device("cuda", context.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(chosen)
    return chosen
