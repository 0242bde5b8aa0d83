"""Run of a reader on one damaged input after another, with limits of CPU time and memory."""

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame.configs.errors import SesameError, path_error

COUNT = int(os.environ.get("SESAME_FUZZ", "150"))
"""Inputs per target in `make test`."""
MANY = 15_000
"""Inputs per target in the slow tests: more than 100,000 for seven targets."""
COUNTS = [COUNT, pytest.param(MANY, marks=pytest.mark.slow)]
CPU_SECONDS = 5
MEMORY = 2**30
"""Bytes of address space that one input may add."""
LONGEST_MESSAGE = 3000

Case = Callable[[random.Random, Path], Callable[[], Any]]
"""(random generator, new folder) -> function that reads the damaged input written to the folder. It returns None, or a
description of a fault if the input was read without an error but wrongly."""


class Failure(NamedTuple):
    seed: int
    fault: str


class Hang(BaseException):
    """The limit of CPU time is exceeded; not caught by ``except Exception``."""


def failures(case: Case, folder: Path, count: int = COUNT, first: int = 0) -> list[Failure]:
    """Run ``count`` seeds from ``first`` on; return the faults.

    A fault is: an exception that is neither a SesameError nor explained by ``path_error``, a message that is not one
    sentence, a wrong result, exceeded limits, or a changed file.
    """
    found: list[Failure] = []
    for seed in range(first, first + count):
        inputs = folder / str(seed)
        inputs.mkdir()
        run = case(random.Random(seed), inputs)
        before = _files(folder)
        fault = _fault(run)
        if _files(folder) != before:
            fault = fault or "files were made, changed or removed"
        if fault:
            found.append(Failure(seed, fault))
        else:
            shutil.rmtree(inputs)
    return found


def report(found: list[Failure]) -> str:
    """Return the faults with the seeds of each."""
    kinds: dict[str, list[int]] = {}
    for failure in found:
        kinds.setdefault(failure.fault, []).append(failure.seed)
    return "\n\n".join(f"{len(seeds)} inputs, first seeds {seeds[:5]}:\n{fault}" for fault, seeds in kinds.items())


def _fault(run: Callable[[], Any]) -> str | None:
    """Call ``run`` and return what is wrong, None if nothing is."""
    printed = io.StringIO()
    try:
        with _limits(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            result = run()
    except SesameError as error:
        return _message_fault(str(error))
    except OSError as error:
        known = path_error(error)
        return _message_fault(str(known)) if known else traceback.format_exc(limit=-4)
    except Hang:
        return f"more than {CPU_SECONDS} s of CPU time:\n{traceback.format_exc(limit=-4)}"
    except BaseException:
        return traceback.format_exc(limit=-4)
    return result


def _message_fault(text: str) -> str | None:
    if not text.strip() or "\n" in text or len(text) > LONGEST_MESSAGE:
        return f"not one sentence: {text[:200]!r}"
    return None


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*") if not path.is_dir()
    }
