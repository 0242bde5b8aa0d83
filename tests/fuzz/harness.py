"""One damaged input at a time, under limits of CPU time and memory."""

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

from configs.errors import SesameError, path_error

COUNT = int(os.environ.get("SESAME_FUZZ", "150"))
"""Inputs of each target in `make test`."""
MANY = 15_000
"""The same in the slow tests: with seven targets more than 100,000."""
COUNTS = [COUNT, pytest.param(MANY, marks=pytest.mark.slow)]
CPU_SECONDS = 5
MEMORY = 2**30
"""Bytes that one input may add."""
LONGEST_SENTENCE = 3000

Case = Callable[[random.Random, Path], Callable[[], Any]]
"""(random numbers, a new folder) -> what reads the damaged input that was written there. It may return a text that says
what is wrong with what it has read in silence."""


class Failure(NamedTuple):
    seed: int
    what: str


class Hang(BaseException):
    """Past the limit of CPU time; no ``except Exception`` catches it."""


def failures(case: Case, folder: Path, count: int = COUNT, first: int = 0) -> list[Failure]:
    """Try the seeds from ``first`` on."""
    found = []
    for seed in range(first, first + count):
        place = folder / str(seed)
        place.mkdir()
        run = case(random.Random(seed), place)
        before = _files(folder)
        what = _tried(run)
        if _files(folder) != before:
            what = what or "files were made, changed or removed"
        if what:
            found.append(Failure(seed, what))
        else:
            _remove(place)
    return found


def report(found: list[Failure]) -> str:
    kinds: dict[str, list[int]] = {}
    for failure in found:
        kinds.setdefault(failure.what, []).append(failure.seed)
    return "\n\n".join(f"{len(seeds)} inputs, first seeds {seeds[:5]}:\n{what}" for what, seeds in kinds.items())


def _tried(run: Callable[[], Any]) -> str | None:
    """What is wrong with how ``run`` ended, None if nothing is."""
    printed = io.StringIO()
    try:
        with _limits(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            silent = run()
    except SesameError as error:
        return _sentence(str(error))
    except OSError as error:
        known = path_error(error)
        return _sentence(str(known)) if known else traceback.format_exc(limit=-4)
    except Hang:
        return f"more than {CPU_SECONDS} s of CPU time:\n{traceback.format_exc(limit=-4)}"
    except BaseException:
        return traceback.format_exc(limit=-4)
    return silent


def _sentence(text: str) -> str | None:
    if not text.strip() or "\n" in text or len(text) > LONGEST_SENTENCE:
        return f"no sentence: {text[:200]!r}"
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


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
