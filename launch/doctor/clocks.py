"""Difference between the clocks of the machines, measured as NTP does (RFC 5905, section 8): the first process answers
with its time, and the shortest of some round trips bounds the error."""

from collections.abc import Sequence
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context

ROUND_TRIPS = 5
SECONDS = 60.0
SKEW = 1.0
"""Seconds. Time stamps of files and lines of logs are then out of order."""
LARGE_SKEW = 300.0
"""Seconds: credentials of munge, Kerberos and cloud stores become invalid."""


def measure(context: Context) -> dict[str, Any]:
    """Seconds by which this process's clock is ahead of the first one's, and the error of that; a collective."""
    if context.rank == 0:
        _serve(context)
        return {"ahead": 0.0, "error": 0.0}
    best = (float("inf"), 0.0)
    clock = context.instruments.clock
    for trip in range(ROUND_TRIPS):
        before = clock()
        context.peers.publish(f"clock/ask/{context.rank}/{trip}", True)
        first = context.peers.answer(f"clock/tell/{context.rank}/{trip}", SECONDS * context.world)
        after = clock()
        best = min(best, (after - before, (before + after) / 2 - first))
    return {"ahead": best[1], "error": best[0] / 2}


def _serve(context: Context) -> None:
    for rank in range(1, context.world):
        if rank in context.peers.silent:
            continue
        for trip in range(ROUND_TRIPS):
            context.peers.answer(f"clock/ask/{rank}/{trip}", SECONDS)
            context.peers.publish(f"clock/tell/{rank}/{trip}", context.instruments.clock())


def judge(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    for answer in answers:
        ahead, error = answer.value["ahead"], answer.value["error"]
        if abs(ahead) - error > SKEW:
            side = "ahead of" if ahead > 0 else "behind"
            what = f"the clock of {answer.process} is {abs(ahead):.1f} s {side} that of process 0"
            level = Level.BAD if abs(ahead) > LARGE_SKEW else Level.SLOW
            found.append(Finding(level, what, "run chronyd or systemd-timesyncd on all machines (timedatectl)"))
    largest = max(answers, key=lambda answer: abs(answer.value["ahead"])).value
    text = "one process" if len(answers) == 1 else f"{abs(largest['ahead']) * 1e3:.1f} ms apart at most"
    return Verdict(text, found)
