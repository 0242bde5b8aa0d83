"""The folder of the runs: space, speed, and whether all processes see the same files there."""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict, by_host
from sesame.launch.doctor.context import Context
from sesame.launch.doctor.slow import slower

BLOCK = 4 * 2**20
BLOCKS, QUICK_BLOCKS = 64, 16
LEAST_FREE = 10 * 2**30
"""Bytes: some checkpoints of BERT-large, which take 4 GB each."""
LEAST_SPEED = 100e6
"""Bytes per second; a checkpoint of BERT-large takes 40 s then."""
LOOK_SECONDS = 5.0
"""Longest time until a new file is visible on another machine; its name is new, so it is not cached as missing."""
EXCHANGE_SECONDS = 60.0


def measure_speed(context: Context) -> dict[str, Any]:
    """Free bytes, and bytes per second of writing and reading; one process of each machine writes."""
    make(context)
    values: dict[str, Any] = {"folder": str(context.folder), "free": shutil.disk_usage(context.folder).free}
    if context.local_rank:
        return values
    content = os.urandom(BLOCK)
    blocks = QUICK_BLOCKS if context.quick else BLOCKS
    # Without a name: whatever ends this process, nothing is left.
    descriptor = _nameless(context)
    try:
        begin = time.perf_counter()
        for _ in range(blocks):
            _write_all(descriptor, content)
        os.fsync(descriptor)
        written = time.perf_counter()
        # What was synced can be dropped from memory, so that it is read from the disk.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(descriptor, 0, os.SEEK_SET)
        start = time.perf_counter()
        while os.read(descriptor, BLOCK):
            pass
        seconds = time.perf_counter() - start
    finally:
        os.close(descriptor)
    size = blocks * BLOCK
    return values | {"write": size / (written - begin), "read": size / seconds}


def _nameless(context: Context) -> int:
    path = context.folder / f".sesame-doctor-{secrets.token_hex(8)}"
    # Before the file is made: a signal may come between the two.
    context.closing.callback(path.unlink, missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    path.unlink()
    return descriptor


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def make(context: Context) -> None:
    """Make the folder if it is missing; what is still empty at the end is removed again."""
    made: list[Path] = []
    folder = context.folder
    while not os.path.lexists(folder):
        made.append(folder)
        folder = folder.parent

    def remove() -> None:
        for each in made:
            with suppress(OSError):
                each.rmdir()

    # Before they are made: a signal may come between the two.
    context.closing.callback(remove)
    context.folder.mkdir(parents=True, exist_ok=True)


def judge_speed(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    hosts = [answer for answer in by_host(answers) if "write" in answer.value]
    for answer in hosts:
        value = answer.value
        if value["free"] < LEAST_FREE:
            what = f"{value['folder']} on {answer.host} has {value['free'] / 2**30:.1f} GiB free"
            found.append(Finding(Level.SLOW, what, "free disk space, or give --folder on another disk"))
        for verb, done in (("write", "written"), ("read", "read")):
            if value[verb] < LEAST_SPEED:
                what = f"{value['folder']} on {answer.host} is {done} at {value[verb] / 1e6:.0f} MB/s"
                change = "put runs on a faster file system (--folder), or save checkpoints less often"
                found.append(Finding(Level.SLOW, what, change))
    found += slower({answer.host: answer.value["write"] for answer in hosts}, "writes", "MB/s", 1e6)
    if not hosts:
        return Verdict("no process wrote", found)
    write, read = (min(answer.value[verb] for answer in hosts) for verb in ("write", "read"))
    free = min(answer.value["free"] for answer in hosts)
    where = hosts[0].value["folder"]
    return Verdict(
        f"{where}: write {write / 1e6:,.0f} MB/s, read {read / 1e6:,.0f} MB/s, {free / 2**30:,.0f} GiB free", found
    )


def measure_visibility(context: Context) -> dict[str, Any]:
    """Whether this process sees a file that the first one has just written; a collective."""
    if context.world == 1:
        return {"folder": str(context.folder), "sees": True}
    make(context)
    if context.rank == 0:
        path = context.folder / f".sesame-doctor-{secrets.token_hex(8)}"
        context.closing.callback(lambda: path.unlink(missing_ok=True))
        path.write_text(path.name)
        context.peers.publish("folder/file", path.name)
        # Until the others have looked.
        context.peers.gather("folder/looked", True, EXCHANGE_SECONDS)
        path.unlink()
        return {"folder": str(context.folder), "sees": True}
    try:
        name = context.peers.read("folder/file", EXCHANGE_SECONDS)
        sees = _sees(context.folder / name)
    finally:
        context.peers.gather("folder/looked", True, 0.0)
    return {"folder": str(context.folder), "sees": sees}


def _sees(path: Path) -> bool:
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        with suppress(OSError):
            if path.read_text() == path.name:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def judge_visibility(answers: Sequence[Answer]) -> Verdict:
    blind = [answer for answer in answers if not answer.value["sees"]]
    found = [
        Finding(
            Level.BAD,
            f"{answer.process} does not see what process 0 writes into {answer.value['folder']}",
            "put datasets and runs on storage that all machines mount under one path, and give it as --folder",
        )
        for answer in blind
    ]
    seen = "all processes see the same files" if len(answers) > 1 else "one process"
    return Verdict(f"{len(blind)} of {len(answers)} processes see other files" if blind else seen, found)
