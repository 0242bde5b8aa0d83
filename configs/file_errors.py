"""Errors of the file system as one sentence that names the path."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sesame.configs.errors import SesameError

LARGEST_FILE = 2**26
"""Bytes of a file that is read as a whole."""


def read_file(file: Path, error_type: type[SesameError], advice: str) -> bytes:
    """Return the content of a file of unknown origin.

    Args:
        error_type: exception to raise.
        advice: end of each message: what the user can do.

    Raises:
        SesameError: an ``error_type``; the file is missing, cannot be read, is not a regular file, or is too large.
    """
    with file_errors_as(error_type, file, "read"):
        try:
            status = file.stat()
        except FileNotFoundError:
            raise error_type(f"{file}: no such file; {advice}") from None
        if not stat.S_ISREG(status.st_mode):
            raise error_type(f"{file}: is not a regular file; {advice}")
        if status.st_size > LARGEST_FILE:
            raise error_type(f"{file}: has {status.st_size:,} bytes, more than the limit of {LARGEST_FILE:,}; {advice}")
        return file.read_bytes()


@contextmanager
def file_errors_as(
    error_type: type[SesameError], path: Path, operation: str, also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Raise ``error_type`` in place of an OSError.

    Args:
        path: as the user gave it; named where the error has no file of its own.
        operation: past participle for the message: "read", "written".
        also: exceptions of libraries that report a failed read or write, other than OSError.

    Raises:
        SesameError: an ``error_type``.
    """
    try:
        yield
    except OSError as error:
        file, reason = error.filename or path, error.strerror or error
        raise error_type(f"{file}: cannot be {operation} ({reason}); correct the path or its permissions") from None
    except also as error:
        raise error_type(f"{path}: cannot be {operation} ({error}); check the path and free disk space") from None
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        raise error_type(f"{str(path)!r}: is not a valid path ({error}); correct it") from None
