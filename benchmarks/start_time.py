"""Seconds from the command `sesame pretrain` to its first step, and from its last step to its exit.

    python benchmarks/start_time.py --dataset runs/demo/dataset --processes 1 2

Runs two steps of a configuration several times in fresh folders and prints medians of wall time and of the processor
time of all processes. After the last step come the validation of ``report.validation_rows`` rows, the loss curve and
the checkpoint. ``--command`` compares with another checkout: ``--command 'python -m sesame' 'env PYTHONPATH=OLD ...'``
takes the commands in turn.
"""

import argparse
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

STEPS = 2
REPORT = re.compile(rf"\bstep \d+/{STEPS} ")
"""In a line of a log, which begins with the time of day."""


class Times(NamedTuple):
    """Seconds of one run."""

    first_step: float
    """From the command until the first step is reported."""
    exit: float
    """From the report of the last step to the end of the command."""
    processor: float
    """Of all processes."""


def run(command: list[str]) -> Times:
    """Run a command that reports each of its steps."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    reported: list[float] = []
    lines: list[str] = []
    # Its errors are printed between those of this program.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if REPORT.search(line):
                reported.append(time.perf_counter())
    end = time.perf_counter()
    if process.returncode or len(reported) != STEPS:
        found = f"exit code {process.returncode}, {len(reported)} of {STEPS} steps reported"
        raise SystemExit(f"{''.join(lines)}{shlex.join(command)} failed: {found}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Times(reported[0] - start, end - reported[-1], processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--command", nargs="+", default=[f"{shlex.quote(sys.executable)} -m sesame"])
    options = parser.parse_args()
    settings = [
        f"data.dataset={options.dataset}",
        f"steps={STEPS}",
        "report.every_steps=1",
        "report.validate_every_steps=1",
    ]
    for processes in options.processes:
        times: dict[str, list[Times]] = {command: [] for command in options.command}
        for _ in range(options.rounds):
            for command, rows in times.items():
                with tempfile.TemporaryDirectory(prefix="sesame-") as folder:
                    words = [*shlex.split(command), "pretrain", options.config, "--output", str(Path(folder) / "run")]
                    words += [word for setting in settings for word in ("--set", setting)]
                    rows.append(run([*words, "--processes", str(processes)]))
        for command, rows in times.items():
            medians = Times(*(statistics.median(column) for column in zip(*rows, strict=True)))
            print(
                f"{processes} processes, {command}: {medians.first_step:.1f} s to the first step, {medians.exit:.1f} s "
                f"from the last step to the exit, {medians.processor:.1f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()
