"""One of two processes that run the checks of ``sesame doctor`` with planted faults; prints the findings as JSON.

Usage: faulty_process.py FOLDER FAULT...; each fault is in the second process only.
"""

import importlib.metadata
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sesame.launch.doctor import folder
from sesame.launch.doctor.check import Check, Verdict
from sesame.launch.doctor.checks import CHECKS
from sesame.launch.doctor.context import Instruments, place
from sesame.launch.doctor.examination import examine, open_context

LEFT_OUT = ("disk", "memory copy", "layers", "training")
"""Checks that take long."""


def slow_product(left: Any, right: Any) -> Any:
    time.sleep(0.5)
    return left @ right


def no_product(left: Any, right: Any) -> Any:
    raise RuntimeError("the device has\nfallen off the bus")


def version(name: str) -> str:
    if name == "numba":
        raise importlib.metadata.PackageNotFoundError(name)
    return importlib.metadata.version(name)


FAULTS: dict[str, dict[str, Any]] = {
    "clock": {"clock": lambda: time.time() + 7},
    "slow": {"multiply": slow_product},
    "broken": {"multiply": no_product},
    "package": {"version": version},
}


def main(base: Path, *faults: str) -> None:
    rank = place()[0]
    own = {name: value for fault in faults if rank for name, value in FAULTS.get(fault, {}).items()}
    folder.LOOK_SECONDS = 0.5
    # Folders of the same name, as two machines have that share no file system.
    where = base / str(rank) if "folder" in faults else base
    found: list[tuple[str, str, str, str]] = []

    def show(check: Check, verdict: Verdict) -> None:
        found.extend((check.name, each.level.name, each.what, each.change) for each in verdict.findings)

    with ExitStack() as closing:
        context = open_context(where / "runs", quick=True, closing=closing, instruments=Instruments(**own))
        context.host = f"machine{rank}"
        results = examine(context, [check for check in CHECKS if check.name not in LEFT_OUT], show)
    if rank == 0:
        print(json.dumps({"findings": found, "answers": {name: len(each) for name, each in results.items()}}))


main(Path(sys.argv[1]), *sys.argv[2:])
