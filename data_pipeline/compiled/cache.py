"""Machine code of the loops on disk: compiled once for a kind of processor, by the process that needs it first.

numba's own cache lacks three things. Processes that start together each compile the same loops; here they wait for the
first. A cache that was installed with the package and cannot be written is not read; here it is, and what it lacks is
kept in another folder. A change in a file that a loop calls into goes unnoticed; here the folder is named after the
code of all files.
"""

import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock, Timeout
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache, _CacheLocator
from numba.core.registry import CPUDispatcher, cpu_target

SOURCES = Path(__file__).parent
CHOSEN = "NUMBA_CACHE_DIR"
"""Environment variable: a folder to use instead of the others."""
LAST_RESORT = "SESAME_LOOPS"
"""The same for a folder to use if no other can be written, which a run sets for its workers."""
LOCK_SECONDS = 600
"""Longest wait for another process that compiles. It must hang if it takes longer; then this process compiles too."""


@cache
def folder_name() -> str:
    """``loops-CODE-PLATFORM``: hashes of the source files, and of interpreter, numba and processor."""
    code = hashlib.sha256()
    for path in sorted(SOURCES.glob("*.py")):
        code.update(f"{path.name}:{path.stat().st_size}:".encode() + path.read_bytes())
    context: Any = cpu_target.target_context
    processor = context.codegen().magic_tuple()
    platform = repr((sys.implementation.cache_tag, numba.__version__, processor)).encode()
    return f"loops-{code.hexdigest()[:12]}-{hashlib.sha256(platform).hexdigest()[:12]}"


def parents() -> Iterator[Path]:
    """Folders that may hold the cache, in order of preference."""
    if chosen := os.environ.get(CHOSEN):
        yield Path(chosen).absolute()
    yield SOURCES / "__pycache__"
    with suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "sesame"
    if last := os.environ.get(LAST_RESORT):
        yield Path(last)


@cache
def folders() -> tuple[tuple[Path, ...], Path | None]:
    """(folders to read, the last of them being the one to write; that one, None where none can be written)."""
    found: list[Path] = []
    for parent in parents():
        folder = parent / folder_name()
        if _can_be_written(folder):
            return (*found, folder), folder
        if folder.is_dir():
            found.append(folder)
    return tuple(found), None


def _can_be_written(folder: Path) -> bool:
    """Make ``folder`` if it is missing and try to write there."""
    is_new = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    if is_new and folder.parent.parent == SOURCES:
        _, code, _ = folder.name.split("-")
        for other in folder.parent.glob("loops-*"):
            if f"-{code}-" not in other.name:
                shutil.rmtree(other, ignore_errors=True)
    return True


def has_code() -> bool:
    """Whether something has been compiled for this processor."""
    return any(next(folder.glob("*.nbi"), None) for folder in folders()[0])


def trouble() -> str | None:
    """A sentence on folders that cannot be written, or None if no one has to know."""
    written, candidates = folders()[1], list(parents())
    is_first = written is not None and written.parent == candidates[0]
    if is_first or (has_code() and not os.environ.get(CHOSEN)):
        return None
    if written is None:
        refused = " and ".join(map(str, candidates))
        return (
            f"compiled loops cannot be kept for the next run, because {refused} cannot be written; set {CHOSEN} to a "
            "folder that can be"
        )
    return f"{candidates[0]} cannot be written; compiled loops are kept in {written.parent}"


def share(folder: Path) -> None:
    """Let the processes that are started from now on keep in ``folder`` what can be kept nowhere else."""
    announce()
    if folders()[1] is None:
        os.environ[LAST_RESORT] = str(folder)


@cache
def announce() -> None:
    """Say what a person should know: once, and only in the process that talks to one."""
    if multiprocessing.parent_process() is not None or os.environ.get("RANK", "0") != "0":
        return
    if sentence := trouble():
        print(f"sesame: {sentence}", file=sys.stderr, flush=True)
    elif not has_code():
        print("compiling loops for this processor: once, before their first use", flush=True)


class Loop(CPUDispatcher):
    """A compiled function whose machine code all processes share."""

    _cache: Any

    def enable_caching(self) -> None:
        self._cache = LoopCache(self.py_func)

    def compile(self, sig: Any) -> Any:
        try:
            return super().compile(sig)
        finally:
            self._cache.release()


class LoopCache(NullCache):
    """numba's caches of one function in all :func:`folders`, and a lock for the time that it is compiled."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._lock: FileLock | None = None

    @cached_property
    def _layers(self) -> list[FunctionCache]:
        return [_Layer(folder, self._function) for folder in folders()[0]]

    @property
    def cache_path(self) -> str | None:
        written = folders()[1]
        return str(written) if written else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for a signature, or None; after None the caller compiles, and others wait until it is done."""
        found = self._load(sig, target_context)
        if found is None:
            announce()
            self._acquire()
            found = self._load(sig, target_context)
        return found

    def save_overload(self, sig: Any, cres: Any) -> None:
        if folders()[1]:
            try:
                self._layers[-1].save_overload(sig, cres)
            except OSError as error:
                print(f"sesame: {self.cache_path}: compiled loops cannot be kept ({error.strerror})", file=sys.stderr)

    def flush(self) -> None:
        if folders()[1]:
            self._layers[-1].flush()

    def _load(self, sig: Any, target_context: Any) -> Any:
        for layer in self._layers:
            try:
                if (found := layer.load_overload(sig, target_context)) is not None:
                    return found
            except Exception:  # whatever a damaged file leads to: it is as good as none
                if layer is self._layers[-1]:
                    with suppress(OSError):
                        self.flush()
        return None

    def _acquire(self) -> None:
        written = folders()[1]
        if written is None or self._lock is not None:
            return
        lock = FileLock(written / "lock", timeout=LOCK_SECONDS, is_singleton=True)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):
            return  # compiling twice is better than not at all
        self._lock = lock

    def release(self) -> None:
        """Let other processes compile."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _Layer(FunctionCache):
    """numba's cache of one function in a folder."""

    def __init__(self, folder: Path, function: Callable[..., Any]):
        self._impl_class: Any = partial(_LayerFiles, folder)
        super().__init__(function)


class _LayerFiles(CompileResultCacheImpl):
    def __init__(self, folder: Path, function: Callable[..., Any]):
        self._locator_classes: Any = [_Folder(folder)]
        super().__init__(function)


class _Folder(_CacheLocator):
    """Tells numba which files a function has in a folder."""

    def __init__(self, folder: Path, line: int = 0):
        self._folder, self._line = folder, line
        self._py_file = str(SOURCES)

    def from_function(self, function: Callable[..., Any], _: str) -> "_Folder":  # type: ignore[override]
        return _Folder(self._folder, function.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)
