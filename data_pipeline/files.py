"""The bytes of a corpus, wherever they lie: local files or any store that fsspec knows, plain or compressed.

A line belongs to the byte range in which it begins, so ranges can be read apart and together give every line once.
"""

import bz2
import glob
import gzip
import io
import lzma
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs

from configs.errors import CorpusError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RANGE_BYTES = 64 << 20
"""A larger file is read in ranges of this size, by several workers, where it can be entered in the middle."""
BLOCK_BYTES = 1 << 20

DECOMPRESS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": zstd.ZstdFile,
}
"""By suffix. Each reads files of several members or frames to their end and says when the last one is cut short."""
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""What reading damaged bytes raises."""


class File(NamedTuple):
    name: str
    """As written in the configuration, or as a glob gave it."""
    path: str
    """For workers that may run elsewhere: absolute, or a URL."""
    size: int
    """Bytes, compressed ones where it is compressed."""

    @property
    def compressed(self) -> bool:
        return Path(self.name).suffix in DECOMPRESS

    @property
    def kind(self) -> str:
        """Suffix of what it holds, without that of a compression."""
        return Path(Path(self.name).stem if self.compressed else self.name).suffix


class Range(NamedTuple):
    """Bytes [start, stop) of a file; ``stop`` None is the end."""

    start: int = 0
    stop: int | None = None


class Line(NamedTuple):
    """One line without its end."""

    offset: int
    """Of its first byte, in the decompressed file."""
    content: bytes


def matching(pattern: str, setting: str = "source.paths") -> list[File]:
    """The files of a path, a folder (all below it but hidden ones) or a glob, sorted; ``setting`` is where it stands.

    Raises:
        CorpusError: nothing matches, or the store needs a package that is not installed.
    """
    found = _remote(pattern) if "://" in pattern else _local(pattern)
    if not found:
        what = "matches no file" if glob.has_magic(pattern) else "no such file"
        raise CorpusError(f"{pattern}: {what}; correct {setting}")
    return found


def ranges(file: File) -> list[Range]:
    """The ranges that a file is read in: one, unless it is large and not compressed."""
    if file.compressed or file.size <= RANGE_BYTES:
        return [Range()]
    return parted(file, RANGE_BYTES)


def parted(file: File, size: int) -> list[Range]:
    """Ranges of ``size`` stored bytes, the last one shorter; one of an empty file."""
    return [Range(start, min(start + size, file.size)) for start in range(0, max(1, file.size), size)]


def open_stored(path: str) -> Any:
    """Open the bytes as they are stored."""
    if "://" not in path:
        return open(path, "rb", buffering=BLOCK_BYTES)
    try:
        remote: Any = fsspec.open(path, "rb")
        # The files of most stores read no more than whole lines, however long.
        return io.BufferedReader(remote.open(), BLOCK_BYTES)
    except Exception as error:
        raise _unanswered(path, error) from None


def open_binary(path: str) -> IO[bytes]:
    """Open for reading, decompressed by suffix; seekable where it is not compressed."""
    raw = open_stored(path)
    decompress = DECOMPRESS.get(Path(path).suffix)
    return decompress(raw) if decompress else raw


def lines(path: str, part: Range, limit: int, dropped: Counter[str]) -> Iterator[Line]:
    """The lines that begin in ``part`` and all that follow it, for a document may need more; the reader stops.

    A line of more than ``limit`` bytes is passed over without being held, and counted in ``dropped``.
    """
    with open_binary(path) as file:
        offset = part.start
        if part.start:
            file.seek(part.start - 1)
            offset += _skip_line(file) - 1
        while line := file.readline(limit + 1):
            if len(line) > limit and not line.endswith(b"\n"):
                dropped["too large"] += 1
                offset += len(line) + _skip_line(file)
                continue
            yield Line(offset, line.rstrip(b"\r\n"))
            offset += len(line)


def line_number(path: str, offset: int) -> int:
    """Number (from 1) of the line that begins at ``offset``; reads the file up to there."""
    newlines, left = 0, offset
    with open_binary(path) as file:
        while left and (block := file.read(min(left, BLOCK_BYTES))):
            newlines += block.count(b"\n")
            left -= len(block)
    return newlines + 1


def begins_after_blank(path: str, start: int) -> bool:
    """Is the line before the first one that begins at or after ``start`` blank? True at the start of a file."""
    if start == 0:
        return True
    with open_binary(path) as file:
        first = max(0, start - BLOCK_BYTES)
        file.seek(first)
        before = file.read(start - first)
        before += b"" if before.endswith(b"\n") else file.readline(BLOCK_BYTES)
    return not before.removesuffix(b"\n").rpartition(b"\n")[2].strip()


def _skip_line(file: IO[bytes]) -> int:
    """Read past the end of the line that the file stands in; the bytes passed."""
    passed = 0
    while piece := file.readline(BLOCK_BYTES):
        passed += len(piece)
        if piece.endswith(b"\n"):
            break
    return passed


def _local(pattern: str) -> list[File]:
    if os.path.isfile(pattern):
        names = [pattern]
    elif glob.has_magic(pattern):
        names = sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
    else:
        names = sorted(str(path) for path in Path(pattern).rglob("*") if path.is_file() and not _hidden(path, pattern))
    return [File(name, os.path.abspath(name), os.path.getsize(name)) for name in names]


def _hidden(path: Path, folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _unanswered(path: str, error: Exception) -> CorpusError:
    """Every store has errors of its own, and what they say is for the user: the address, the rights, the network."""
    said = " ".join(str(error).split())
    return CorpusError(
        f"{path}: the store does not answer ({type(error).__name__}: {said}); check its address, your credentials and "
        "the network"
    )


def _remote(pattern: str) -> list[File]:
    try:
        store, root = url_to_fs(pattern)
        if glob.has_magic(pattern):
            paths = store.glob(root)
        elif store.isdir(root):
            paths = [path for path in store.find(root) if not _hidden(Path(path), root)]
        else:
            paths = [root] if store.isfile(root) else []
        sizes = [store.info(path)["size"] for path in paths]
        urls = [store.unstrip_protocol(path) for path in paths]
    except (ImportError, ValueError) as error:
        raise CorpusError(f"{pattern}: {error}; pip install 'sesame[s3]' or 'sesame[gcs]', or correct it") from None
    except Exception as error:
        raise _unanswered(pattern, error) from None
    return [File(url, url, size) for url, size in sorted(zip(urls, sizes, strict=True))]
