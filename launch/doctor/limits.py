"""Limits of the operating system and of the container: open files, locked memory, memory and CPU time."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict, by_host
from sesame.launch.doctor.context import Context

OPEN_FILES = 4096
"""A run maps its shards and opens a few sockets for each process; Ray advises as many."""
LEAST_MEMORY = 4 * 2**30
"""Bytes for one process: the libraries take 1.5 GB of it."""
CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 2**60


def measure(context: Context) -> dict[str, Any]:
    """Limits as numbers; None for those that do not limit."""
    return {
        "open_files": _soft(resource.RLIMIT_NOFILE),
        "locked_memory": _soft(resource.RLIMIT_MEMLOCK),
        "memory": memory_limit(),
        "cpus": cpu_limit(),
        "cores": len(os.sched_getaffinity(0)),
        "processes": context.local_world,
        "infiniband": Path("/dev/infiniband").is_dir(),
    }


def _soft(limit: int) -> int | None:
    soft, _ = resource.getrlimit(limit)
    return None if soft == resource.RLIM_INFINITY else soft


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """Bytes that the container allows (cgroup version 2 or 1)."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(cgroup / name)
        if text.isdecimal() and int(text) < UNLIMITED:
            return int(text)
    return None


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """CPUs that the container allows, in seconds of CPU time for each second."""
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_read(cgroup / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def judge(answers: Sequence[Answer]) -> Verdict:
    found = [finding for answer in by_host(answers) for finding in _of_host(answer)]
    first = answers[0].value
    memory, cpus = first["memory"], first["cpus"]
    text = (
        f"open files {first['open_files'] or 'unlimited'}, locked memory {_bytes(first['locked_memory'])}, container: "
        f"memory {_bytes(memory)}, CPUs {'unlimited' if cpus is None else f'{cpus:.1f}'} of {first['cores']}"
    )
    return Verdict(text, found)


def _of_host(answer: Answer) -> list[Finding]:
    value, host = answer.value, answer.host
    found: list[Finding] = []
    if value["open_files"] is not None and value["open_files"] < OPEN_FILES:
        what = f"{host} allows {value['open_files']} open files, {OPEN_FILES} are needed for many shards and for Ray"
        found.append(Finding(Level.SLOW, what, "ulimit -n 65536 (in limits.conf, or LimitNOFILE of slurmd)"))
    if value["infiniband"] and value["locked_memory"] is not None:
        what = f"{host} has InfiniBand, but allows only {_bytes(value['locked_memory'])} of locked memory"
        found.append(Finding(Level.BAD, what, "ulimit -l unlimited (LimitMEMLOCK=infinity of slurmd, or of docker)"))
    if value["memory"] is not None and value["memory"] < LEAST_MEMORY * value["processes"]:
        what = f"the container on {host} has {_bytes(value['memory'])} for {value['processes']} processes"
        found.append(
            Finding(Level.BAD, what, "give it 4 GiB for each process, and what the model needs (sbatch --mem)")
        )
    if value["cpus"] is not None and value["cpus"] < value["cores"] - 0.5:
        what = f"the container on {host} may use {value['cpus']:.1f} CPUs, but sees {value['cores']}: threads will wait"
        threads = max(1, int(value["cpus"] // value["processes"]))
        change = f"--set parallel.threads={threads} and workers.count={max(1, int(value['cpus']))}, or a larger quota"
        found.append(Finding(Level.SLOW, what, change))
    return found


def _bytes(count: int | None) -> str:
    return (
        "unlimited" if count is None else f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count / 2**10:.0f} KiB"
    )
