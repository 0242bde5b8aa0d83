"""Finding the slow ones among processes that should be equal."""

from collections.abc import Mapping
from statistics import median_high

from sesame.launch.doctor.check import Finding, Level

SLOWER_BY = 0.2
"""Share below the median at which a process is named; two runs on one machine differ by less than half of it."""


def slower(speeds: Mapping[str, float], verb: str, unit: str, scale: float) -> list[Finding]:
    """Find the speeds that are more than :data:`SLOWER_BY` below the median.

    Args:
        speeds: by name of a process or machine.
        verb: what is done with that speed, such as "writes".
        scale: of the unit.
    """
    if len(speeds) < 2:
        return []
    # Of two, the faster one is what the other should be.
    middle = median_high(speeds.values())
    change = "look for other work on it, power limits, heat, and memory of another kind; or leave it out of the job"
    return [
        Finding(
            Level.SLOW,
            f"{name} {verb} at {speed / scale:,.2f} {unit}, {1 - speed / middle:.0%} below the median of "
            f"{middle / scale:,.2f}",
            change,
        )
        for name, speed in speeds.items()
        if speed < (1 - SLOWER_BY) * middle
    ]
