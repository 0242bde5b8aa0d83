"""Run the checks in step on all processes; the first one judges and reports."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sesame.configs.errors import one_line
from sesame.launch.doctor.check import Answer, Check, Finding, Level, Verdict
from sesame.launch.doctor.context import Context, Instruments, place
from sesame.launch.doctor.peers import Peers

INSTALL = "install what is missing; see versions"
NEXT_SECONDS = 900.0
"""Longest time that a process waits for the first one to go on; it may wait for a silent one."""


def open_context(folder: Path, *, quick: bool, closing: ExitStack, instruments: Instruments = Instruments()) -> Context:
    """Connect this process to the others, as the variables of its launcher say."""
    rank, world, local_rank, local_world = place()
    peers = Peers(rank, world)
    closing.callback(peers.close)
    return Context(rank, world, local_rank, local_world, folder, quick, peers, closing, instruments)


def examine(
    context: Context, checks: Sequence[Check], show: Callable[[Check, Verdict], None] = lambda *_: None
) -> dict[str, list[Answer]]:
    """Run the checks in this process; a collective.

    Args:
        show: called in the first process with each check's verdict.

    Returns:
        In the first process, what all processes measured, by check. A check that failed somewhere lacks an answer.
    """
    results: dict[str, list[Answer]] = {}
    complete: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name not in complete]
        if not _agree(context, check, is_possible=not missing):
            if context.rank == 0:
                show(check, Verdict(f"needs {', '.join(missing)}", is_left_out=True))
            continue
        answers, failures = _ask(context, check)
        if context.rank:
            continue
        results[check.name] = answers
        if len(answers) == context.world:
            complete.add(check.name)
        verdict = _judge(check, answers)
        show(check, verdict._replace(findings=[*failures, *verdict.findings]))
    return results


def _agree(context: Context, check: Check, *, is_possible: bool) -> bool:
    """Start together, or leave the check out together, as the first process says."""
    name = f"{check.name}/start"
    if context.rank == 0:
        context.peers.publish(name, is_possible)
        return is_possible
    return context.peers.read(name, NEXT_SECONDS)


def _ask(context: Context, check: Check) -> tuple[list[Answer], list[Finding]]:
    mine: dict[str, Any] = {"host": context.host}
    try:
        mine["value"] = check.measure(context)
    except Exception as error:  # What fails here is a finding, and the next check runs.
        mine["failure"] = _reason(error)
        mine["change"] = INSTALL if isinstance(error, ImportError) else check.change
    gathered = context.peers.gather(check.name, mine, check.seconds)
    answers = [Answer(rank, each["host"], each["value"]) for rank, each in sorted(gathered.items()) if "value" in each]
    return answers, _failures(gathered, context, check)


def _failures(gathered: Mapping[int, Mapping[str, Any]], context: Context, check: Check) -> list[Finding]:
    found = [
        Finding(Level.BAD, f"process {rank} ({each['host']}): {each['failure']}", each["change"])
        for rank, each in sorted(gathered.items())
        if "failure" in each
    ]
    for rank in sorted(set(range(context.world)) - set(gathered)) if context.rank == 0 else ():
        what = f"process {rank} of {context.world} did not answer within {check.seconds:.0f} s"
        found.append(Finding(Level.BAD, what, "look at its machine: it is not started, stopped or out of memory"))
    return found


def _judge(check: Check, answers: Sequence[Answer]) -> Verdict:
    if not answers:
        return Verdict("failed")
    try:
        return check.judge(answers)
    except Exception as error:  # Values that a check did not expect must not hide those of the others.
        return Verdict("failed", [Finding(Level.BAD, _reason(error), check.change)])


def _reason(error: Exception) -> str:
    text = one_line(error).strip() or "no reason given"
    return f"{type(error).__name__}: {text}"[:300]
