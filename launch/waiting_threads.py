"""How long a thread waits for the others of its process before it sleeps.

torch's threads meet several hundred times in a training step on a CPU. Where other work has one of the cores, a thread
waits for one that is not running, and by default GNU's OpenMP lets it spin on its own core for tens of milliseconds:
two threads were six to ten times slower than one. Threads that have their cores are there after microseconds.
"""

import os
from collections.abc import MutableMapping

VARIABLE, SPINS = "GOMP_SPINCOUNT", "10000"
"""Some tenths of a millisecond: a step of the demo is 2 % slower on quiet cores and 3 to 5 times faster on shared ones;
3,000 cost 10 % on quiet ones."""


def sleep_early(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads spin briefly, unless the user has said how they wait; to be called before torch is imported."""
    if not {VARIABLE, "OMP_WAIT_POLICY"} & environment.keys():
        environment[VARIABLE] = SPINS
