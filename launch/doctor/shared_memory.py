"""Shared memory: loader processes, Ray and NCCL pass data through it, and containers have little."""

import os
from collections.abc import Sequence
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict, by_host
from sesame.launch.doctor.context import Context
from sesame.launch.place import gpus

LOADERS = 64 * 2**20
"""Bytes of the batches that the loader processes of one trainer have ready: four steps of a few MB each."""
NCCL = 64 * 2**20
"""Bytes of NCCL's buffers for each GPU; about 10 MB for each channel and peer of a machine."""
RAY = 256 * 2**20
"""Bytes of the object store that ``sesame prepare`` starts Ray with."""
MB = 2**20


def measure(context: Context) -> dict[str, Any]:
    """Size and free bytes, and the bytes that training with these processes needs."""
    status = os.statvfs(context.instruments.shared_memory)
    return {
        "path": str(context.instruments.shared_memory),
        "size": status.f_blocks * status.f_frsize,
        "free": status.f_bavail * status.f_frsize,
        "training": context.local_world * (LOADERS + NCCL * (gpus() > 0)),
    }


def judge(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    for answer in by_host(answers):
        path, free, size, training = (answer.value[key] for key in ("path", "free", "size", "training"))
        needed = max(training, RAY)
        if free < needed:
            what = (
                f"{path} on {answer.host} has {free // MB:,} MB free of {size // MB:,} MB; {needed // MB:,} are needed"
            )
            change = f"docker run --shm-size={needed // MB}m (or --ipc host), or mount a larger tmpfs at {path}"
            # Ray uses files in /tmp instead, which are slow.
            found.append(Finding(Level.BAD if free < training else Level.SLOW, what, change))
    first = answers[0].value
    return Verdict(f"{first['free'] // MB:,} MB free, {max(first['training'], RAY) // MB:,} MB needed", found)
