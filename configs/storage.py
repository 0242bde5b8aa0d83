"""Atomic writes of files and folders, and SHA-256 digests.

Content is written under a temporary name in the same folder, synced to the disk and renamed, so that after a kill or a
full disk at any moment the previous content is intact.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

LOCK = ".lock"
"""File of a folder that is locked."""


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces ``path`` when the block ends without an exception.

    Args:
        durable: sync the content to the disk before the rename and the folder after it. If False, the file survives a
            crash of the process but not of the machine, which is enough for files that can be computed again.

    Raises:
        OSError: it cannot be written; the temporary file is removed.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = _sibling(path)
    try:
        with named_errors(path), partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace ``path`` with ``text`` as UTF-8; see :func:`atomic_file`."""
    write_bytes(path, text.encode(), durable=durable)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace ``path`` with ``content``; see :func:`atomic_file`."""
    with atomic_file(path, durable=durable) as file:
        file.write(content)


def append_line(path: Path, line: str) -> None:
    """Append ``line`` as UTF-8; see :func:`append`."""
    append(path, f"{line}\n".encode())


def append(path: Path, content: bytes) -> None:
    """Append ``content`` to a file, which is created if it is missing.

    Raises:
        OSError: it cannot be written; the file has nothing of the content.
    """
    with named_errors(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``path`` when the block ends without an exception.

    ``path`` may be an empty folder, or a link to one. Missing parents are created, and removed if the block fails.

    Args:
        replace: ``path`` may be a folder with content, which is removed once the new one is complete. A kill between
            the two renames leaves no folder of that name.

    Raises:
        OSError: it cannot be written, or ``path`` is not empty by then; the temporary folder is removed.
    """
    final = Path(os.path.realpath(path))
    partial = _sibling(final)
    created: list[Path] = []
    try:
        for folder in (*_missing(final.parent), partial):
            folder.mkdir()
            created.append(folder)
        with named_errors(path):
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    sync_file(file)
        sync_folder(partial)
        with _moved_aside(final) if replace else nullcontext():
            partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in reversed(created):
            with suppress(OSError):
                folder.rmdir()
        raise
    sync_folder(final.parent)


@contextmanager
def _moved_aside(folder: Path) -> Iterator[None]:
    """Rename a folder while the block runs, then remove it; it gets its name back if the block fails."""
    if not folder.is_dir():
        yield
        return
    aside = _sibling(folder)
    folder.rename(aside)
    try:
        yield
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Add ``path`` to an OSError that has no file name, as those of writing to an open file on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder and below; call it while the folder is locked.

    Folders below that another process has locked are left alone.
    """
    for path in folder.iterdir():
        is_folder = path.is_dir() and not path.is_symlink()
        if path.match(".sesame-*.partial"):
            shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
        elif is_folder and not _is_locked(path):
            remove_unfinished(path)


def keep_lines(path: Path, is_kept: Callable[[bytes], bool]) -> None:
    """Remove the other lines of a file, atomically, and the rest of a line that a killed process has not completed;
    nothing if there is no such file."""
    if path.exists():
        lines = [line + b"\n" for line in path.read_bytes().split(b"\n") if is_kept(line)]
        with atomic_file(path) as file:
            file.write(b"".join(lines))


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Lock a folder, which is made if it is missing, while the block runs; False if another process has locked it.

    The lock ends with the process that has it, however that ends. A folder that is still empty at the end of the block
    is removed if it was made here.

    Raises:
        OSError: the folder cannot be made or written.
    """
    made = _missing(folder)
    path = folder / LOCK
    with _lock_file(path) as is_locked:
        try:
            yield is_locked
        finally:
            if is_locked:
                # Before the lock is given up, so that nobody else has it yet.
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    for each in reversed(made):
                        each.rmdir()


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; return False if another process has, or the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _lock_file(path: Path) -> Iterator[bool]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+b")
        except FileNotFoundError:
            # The process that had the lock has removed the folder, which it had made.
            continue
        with file:
            if not try_lock(file):
                yield False
                return
            if not _is_at(file, path):
                # It has removed the file that was opened here.
                continue
            yield True
            return


def _is_at(file: IO[Any], path: Path) -> bool:
    """Return whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _is_locked(folder: Path) -> bool:
    """Return whether another process has locked a folder."""
    try:
        with (folder / LOCK).open("rb") as file:
            return not try_lock(file)
    except OSError:
        return False


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the entries of a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sibling(path: Path) -> Path:
    """Return a unique temporary name in the same folder; hidden, so that globs for finished files do not match it."""
    return path.with_name(f".sesame-{secrets.token_hex(8)}.partial")


def _missing(folder: Path) -> list[Path]:
    """Return ``folder`` and its parents that do not exist, the outermost first."""
    missing: list[Path] = []
    while not os.path.lexists(folder):
        missing.insert(0, folder)
        folder = folder.parent
    return missing
