"""Files, and the byte ranges of large files that are read by different workers."""

from pathlib import Path
from typing import NamedTuple

from sesame.data_pipeline.sources.streams import SUFFIXES, is_plain

RANGE_BYTES = 64 << 20
"""Larger files are read in ranges of this size by several workers, if reading can start anywhere in them."""


class File(NamedTuple):
    name: str
    """As the configuration, a folder or a glob gives it, in Unicode."""
    path: str
    """Absolute path or URL, for workers in another folder."""
    size: int
    """Stored (compressed) bytes."""

    @property
    def suffix(self) -> str:
        """Suffix of the content, without that of a compression."""
        path = Path(self.name)
        return Path(path.stem).suffix if path.suffix in SUFFIXES else path.suffix


class Range(NamedTuple):
    """Bytes [start, stop) of a file; ``stop`` None is the end."""

    start: int = 0
    stop: int | None = None


def byte_ranges(file: File) -> list[Range]:
    """The ranges to read a text file in: one, unless it is large, uncompressed and UTF-8."""
    if file.size <= RANGE_BYTES or not is_plain(file.path):
        return [Range()]
    return split_evenly(file, RANGE_BYTES)


def split_evenly(file: File, size: int) -> list[Range]:
    """Ranges of ``size`` stored bytes, the last one shorter; one range for an empty file."""
    return [Range(start, min(start + size, file.size)) for start in range(0, max(1, file.size), size)]
