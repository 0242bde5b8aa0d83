"""The output folder of an export or import: complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sesame.configs.errors import ConversionError
from sesame.configs.file_errors import file_errors_as
from sesame.configs.storage import atomic_directory


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``path`` at the end, or removed if an exception is raised.

    Raises:
        ConversionError: ``path`` exists and is not an empty folder, or cannot be written.
    """
    with file_errors_as(ConversionError, path, "written", also=(SafetensorError,)):
        final = Path(os.path.realpath(path))
        if (final.exists() or final.is_symlink()) and (not final.is_dir() or any(final.iterdir())):
            raise ConversionError(f"{path}: exists and is not empty; choose another folder or remove it")
        with atomic_directory(path) as partial:
            yield partial
