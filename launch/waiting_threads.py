"""How long a thread waits for the others of its process before it sleeps.

torch's threads meet at the end of each operation. Where other work has one of the cores, a thread waits for one that
is not running, and by default GNU's OpenMP lets it spin on its own core, where the other one could run: two threads
were at least six times slower than one (``benchmarks/RESULTS.md``).
"""

import os
from collections.abc import MutableMapping

VARIABLE, SPINS = "GOMP_SPINCOUNT", "10000"
"""A step of the demo is as fast on quiet cores, and about three times as fast on shared ones; 3,000 cost 10 % on quiet
ones."""


def sleep_early(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads spin briefly, unless the user has said how they wait; to be called before torch is imported."""
    if not {VARIABLE, "OMP_WAIT_POLICY"} & environment.keys():
        environment[VARIABLE] = SPINS
