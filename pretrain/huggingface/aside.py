"""A folder that is complete as soon as it can be seen."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from configs.errors import ConversionError


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, renamed to it when all went well and removed otherwise.

    Its name is drawn, so that it can be nobody else's; what is already beside ``folder`` is left alone.

    Raises:
        ConversionError: ``folder`` exists and is not an empty folder, or cannot be written.
    """
    with sentences(folder, "written"):
        final = Path(os.path.realpath(folder))
        if (final.exists() or final.is_symlink()) and (not final.is_dir() or any(final.iterdir())):
            raise ConversionError(f"{folder}: exists and is not empty; choose another folder or remove it")
        partial = final.with_name(f".sesame-{secrets.token_hex(8)}.partial")
        made: list[Path] = []
        try:
            for new in (*_missing(final.parent), partial):
                new.mkdir()
                made.append(new)
            yield partial
            for file in partial.iterdir():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            # Takes the place of an empty folder, and fails where anything else has come there in the meantime.
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            for parent in reversed(made):
                with suppress(OSError):
                    parent.rmdir()
            raise


@contextmanager
def sentences(path: Path, done: str) -> Iterator[None]:
    """Turn an OSError into a sentence that names ``path``, as it was given.

    Raises:
        ConversionError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        where, reason = error.filename or path, error.strerror or error
        raise ConversionError(f"{where}: cannot be {done} ({reason}); correct the path or its permissions") from None
    except SafetensorError as error:
        raise ConversionError(f"{path}: cannot be {done} ({error}); correct the path or make room") from None
    except ValueError as error:
        # A null byte, which no path can have.
        if "embedded null" not in str(error):
            raise
        raise ConversionError(f"{str(path)!r}: is no path ({error}); correct it") from None


def _missing(folder: Path) -> list[Path]:
    """A folder and those that it is in, as far as they are not there, the outermost first."""
    missing: list[Path] = []
    while not os.path.lexists(folder):
        missing.insert(0, folder)
        folder = folder.parent
    return missing
