"""Start ``sesame doctor`` as a run is started: alone, in processes of its own, or as one of a launcher's."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from sesame.configs.errors import ConfigError, one_line
from sesame.configs.machine import Device, Layers, Machine, Products, Training
from sesame.configs.stopping import raise_signals
from sesame.launch.doctor.check import Answer, Check, Level, Verdict
from sesame.launch.doctor.checks import CHECKS
from sesame.launch.doctor.context import Context
from sesame.launch.doctor.examination import examine, open_context
from sesame.launch.doctor.interconnect import bandwidth
from sesame.launch.doctor.report import Report
from sesame.launch.library_warnings import ignore_library_warnings
from sesame.launch.place import machine
from sesame.launch.processes import SESAME, supervise

MUST_CHANGE = 1
"""Exit code if a run could not start."""
Results = Mapping[str, Sequence[Answer]]


def start(folder: Path, output: Path | None, processes: int | None, *, quick: bool) -> int:
    """Examine this machine, or all machines of the job, and return the exit code.

    Args:
        folder: where runs will be written.
        output: file for the measured speeds; None: not written.
        processes: on each machine; None: one for each GPU, or one.

    Raises:
        SesameError: the scheduler's variables do not fit, or the first process cannot be reached.
    """
    if output is not None and output.is_dir():
        raise ConfigError(f"--output {output}: is a folder; name a file in it, such as {output / 'machine.json'}")
    if "RANK" not in os.environ:
        place = machine(processes)
        if place.processes * place.machines > 1:
            words = ["doctor", "--folder", str(folder), *(["--quick"] if quick else [])]
            words += ["--output", str(output)] if output else []
            return supervise([*SESAME, *words], place)
    raise_signals()
    ignore_library_warnings()
    with ExitStack() as closing:
        temporary = Path(tempfile.gettempdir()) / f"sesame-doctor-{secrets.token_hex(8)}"
        # Before it is made: a signal may come between the two.
        closing.callback(shutil.rmtree, temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        # Of the libraries as well, which leave caches there.
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        return _examine(open_context(folder, quick=quick, closing=closing), output)


def _examine(context: Context, output: Path | None) -> int:
    interrupts: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if context.rank:
        examine(context, CHECKS)
        return 0
    signal.signal(signal.SIGINT, interrupt)
    # Its own file: the self-test redirects standard output.
    console = Console(file=sys.stdout, highlight=False)
    with Report(console, [check.name for check in CHECKS]) as report:

        def show(check: Check, verdict: Verdict) -> None:
            report.show(check, verdict)
            # A library may have swallowed the exception.
            if interrupts:
                raise KeyboardInterrupt

        results = examine(context, CHECKS, show)
    level = report.summarize()
    if output is not None:
        _write(results, output, console)
    return MUST_CHANGE if level is Level.BAD else 0


def _write(results: Results, output: Path, console: Console) -> None:
    found = speeds(results)
    if found is None:
        console.print(f"{one_line(output)} is not written: not every process could be measured", soft_wrap=True)
        return
    found.save(output)
    console.print(f"machine: {output}", soft_wrap=True, markup=False)


def speeds(results: Results) -> Machine | None:
    """The measured speeds as ``machine.json`` has them; None if a process lacks one."""
    kinds, copies, products = (results.get(name, ()) for name in ("devices", "memory copy", "matrix products"))
    layers = {answer.rank: answer.value for answer in results.get("layers", ())}
    if not len(kinds) == len(copies) == len(products) > 0:
        return None
    devices = tuple(
        Device(
            name=kind.value["name"],
            type=kind.value["type"],
            memory_bytes=kind.value["memory_bytes"],
            products=Products(fp32=product.value["fp32"], bf16=product.value["bf16"]),
            memory_bandwidth=copy.value["bandwidth"],
            cores=kind.value["cores"],
            layers={name: Layers(**rates) for name, rates in layers.get(kind.rank, {}).items()},
        )
        for kind, copy, product in zip(kinds, copies, products, strict=True)
    )
    reductions = [bandwidth(answer.value["machine"]) for answer in results.get("all-reduce", ())]
    return Machine(
        devices=devices,
        reduction_bandwidth=min((each for each in reductions if each is not None), default=None),
        training=_training(results.get("training", ())),
    )


def _training(answers: Sequence[Answer]) -> Training | None:
    if not answers or not answers[0].value["is_finite"] or not answers[0].value["tokens_per_second"]:
        return None
    value = answers[0].value
    return Training(
        tokens_per_second=value["tokens_per_second"],
        flops_per_second=value["flops_per_second"],
        precision=value["precision"],
    )
