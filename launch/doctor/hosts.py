"""The processes that take part, and whether their machines are busy with other work."""

import os
from collections.abc import Sequence
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict, by_host
from sesame.launch.doctor.context import Context

BUSY = 0.5
"""Processes that wait for a core or use one, for each core, before anything is measured."""


def measure(context: Context) -> dict[str, Any]:
    """The load of the last minute, and the cores of the machine."""
    return {"load": os.getloadavg()[0], "cores": os.cpu_count() or 1}


def judge(answers: Sequence[Answer]) -> Verdict:
    hosts = by_host(answers)
    found = [
        Finding(
            Level.SLOW,
            f"{answer.host} is busy: a load of {answer.value['load']:.1f} on {answer.value['cores']} cores",
            "end other work there, or leave the machine out; its speeds below are lower than they could be",
        )
        for answer in hosts
        if answer.value["load"] > BUSY * answer.value["cores"]
    ]
    machines = "1 machine" if len(hosts) == 1 else f"{len(hosts)} machines"
    return Verdict(f"{len(answers)} on {machines}: {', '.join(answer.host for answer in hosts)}", found)
