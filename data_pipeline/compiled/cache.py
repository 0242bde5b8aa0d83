"""Cache of the loops' machine code on disk, compiled once per type of processor by the first process that needs it.

Differs from numba's own cache in three ways. Processes that start together wait for the first one instead of each
compiling the same loops. A read-only cache that was installed with the package is used, and what it lacks is cached in
another folder. The folder is named after a hash of all source files, so that a change in a file that a loop calls is
noticed.
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
TRAINING_SOURCES = SOURCES.parents[1] / "pretrain" / "compiled"
CHOSEN = "NUMBA_CACHE_DIR"
"""Environment variable: a folder to use before the others."""
LAST_RESORT = "SESAME_LOOPS"
"""Environment variable: a folder to use if no other can be written, set by a run for its workers."""
LOCK_SECONDS = 600
"""Longest wait for another process that compiles; after that it is assumed to hang, and this process compiles too."""


@cache
def folder_name() -> str:
    """Return ``loops-CODE-PLATFORM``: hashes of the source files, and of interpreter, numba and processor."""
    code = hashlib.sha256()
    for path in [path for folder in (SOURCES, TRAINING_SOURCES) for path in sorted(folder.glob("*.py"))]:
        code.update(f"{path.name}:{path.stat().st_size}:".encode() + path.read_bytes())
    context: Any = cpu_target.target_context
    processor = context.codegen().magic_tuple()
    platform = repr((sys.implementation.cache_tag, numba.__version__, processor)).encode()
    return f"loops-{code.hexdigest()[:12]}-{hashlib.sha256(platform).hexdigest()[:12]}"


def parents() -> Iterator[Path]:
    """Yield parent folders of the cache, in order of preference."""
    if chosen := os.environ.get(CHOSEN):
        yield Path(chosen).absolute()
    yield SOURCES / "__pycache__"
    with suppress(RuntimeError):  # a user without a home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "sesame"
    if last := os.environ.get(LAST_RESORT):
        yield Path(last)


@cache
def folders() -> tuple[tuple[Path, ...], Path | None]:
    """Return (folders to read, the last of them also to write; that one, None if none can be written)."""
    readable: list[Path] = []
    for parent in parents():
        folder = parent / folder_name()
        if _can_be_written(folder):
            return (*readable, folder), folder
        if folder.is_dir():
            readable.append(folder)
    return tuple(readable), None


def _can_be_written(folder: Path) -> bool:
    """Create ``folder`` if it is missing and return whether it can be written."""
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
    """Return whether any loop has been compiled for this processor."""
    return any(next(folder.glob("*.nbi"), None) for folder in folders()[0])


def trouble() -> str | None:
    """Return a warning about folders that cannot be written, None if there is nothing to warn of."""
    written, candidates = folders()[1], list(parents())
    is_first = written is not None and written.parent == candidates[0]
    if is_first or (has_code() and not os.environ.get(CHOSEN)):
        return None
    if written is None:
        refused = " and ".join(map(str, candidates))
        return (
            f"compiled loops cannot be cached for the next run, because {refused} cannot be written; set {CHOSEN} to a "
            "writable folder"
        )
    return f"{candidates[0]} cannot be written; compiled loops are cached in {written.parent}"


def share(folder: Path) -> None:
    """Make processes that are started from now on cache in ``folder`` if no other folder can be written."""
    announce()
    if folders()[1] is None:
        os.environ[LAST_RESORT] = str(folder)


@cache
def announce() -> None:
    """Print warnings about the cache, once and only in the main process."""
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
    """numba's caches of one function in all :func:`folders`, and a lock that is held during compilation."""

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
        """Return the code for a signature, or None; after None the caller compiles while others wait."""
        loaded = self._load(sig, target_context)
        if loaded is None:
            announce()
            self._acquire()
            loaded = self._load(sig, target_context)
        return loaded

    def save_overload(self, sig: Any, cres: Any) -> None:
        if folders()[1]:
            try:
                self._layers[-1].save_overload(sig, cres)
            except OSError as error:
                print(f"sesame: {self.cache_path}: compiled loops cannot be cached ({error.strerror})", file=sys.stderr)

    def flush(self) -> None:
        if folders()[1]:
            self._layers[-1].flush()

    def _load(self, sig: Any, target_context: Any) -> Any:
        for layer in self._layers:
            try:
                if (loaded := layer.load_overload(sig, target_context)) is not None:
                    return loaded
            except Exception:  # a damaged file may raise anything; it counts as missing
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
            return  # compile without the lock, at worst twice
        self._lock = lock

    def release(self) -> None:
        """Release the lock, so that other processes can compile."""
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
    """Gives numba the file names of a function in a folder."""

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
