"""Exceptions for errors that the user can correct. Each message is one sentence: what is wrong, where, what to do.

    SesameError            the command prints the message and exits with code 2
    ├── ConfigError        a run's TOML file or a --set override
    ├── CorpusError        text to be prepared
    ├── DatasetError       a folder of prepared shards
    ├── CheckpointError    a folder written by a training run
    ├── TrainingError      a training run with values that are not finite
    ├── ConversionError    export to or import from transformers
    ├── TaskError          the files of an evaluation task
    └── StorageError       a disk that is full or has failed

Any other exception is a defect of the program and shows its traceback.
"""

import errno
import importlib.util
import os


def one_line(text: object) -> str:
    """Return ``text`` on one line: control characters, which names in files may contain, are escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


class SesameError(Exception):
    """An error that the user can correct; the message names the file, row or key, and what to do."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(SesameError):
    """A configuration file or override is wrong."""


class CorpusError(SesameError):
    """The text to be prepared is missing, empty or unreadable."""


class DatasetError(SesameError):
    """A prepared dataset is incomplete, damaged or does not fit the run."""


class CheckpointError(SesameError):
    """A checkpoint is incomplete, damaged or does not fit the run."""


class TrainingError(SesameError):
    """A training run has diverged."""


class ConversionError(SesameError):
    """A model folder is incomplete or not supported, or transformers has no class for a checkpoint."""


class TaskError(SesameError):
    """The files of an evaluation task are missing or have a wrong layout."""


class StorageError(SesameError):
    """A disk is full or has failed; what is finished stays, so that the same command continues."""


ADVICE = {
    errno.ENOENT: "give an existing path",
    errno.ENOTDIR: "a file is where a folder is needed; give another path",
    errno.EISDIR: "it is a folder, but a file is needed; give another path",
    errno.EEXIST: "give another path or remove it",
    errno.ENOTEMPTY: "give another path or empty it",
    errno.EACCES: "change its permissions or give another path",
    errno.EPERM: "change its permissions or give another path",
    errno.EROFS: "give a writable path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a symbolic link points to itself; give another path",
    errno.ENOSPC: "free disk space or give a path on another disk, then run the same command again",
    errno.EDQUOT: "free disk space or give a path on another disk, then run the same command again",
    errno.EFBIG: "give a path on a file system that supports larger files",
    errno.EIO: "the disk failed; give a path on another one",
    errno.EBUSY: "it is in use; give another path",
    errno.EXDEV: "give a path on the same file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""errno -> what the user can do."""
STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Errors of disks, which say nothing about the input; their exceptions often have no file name."""
TRAINING_PACKAGES = ("torch", "deepspeed", "megatron", "safetensors", "sklearn", "tensorboard")
"""Import names of what only training and evaluation need; an installation for preparing data has none of them."""
USER_ERRORS = (SesameError, OSError, ModuleNotFoundError)
"""Exceptions for which :func:`message_of` may have a sentence."""


def message_of(error: Exception) -> str | None:
    """Return the sentence for the user about ``error``, None if it is a defect of the program."""
    known = error
    if isinstance(error, OSError):
        known = path_error(error)
    elif isinstance(error, ModuleNotFoundError):
        known = package_error(error)
    return str(known) if isinstance(known, SesameError) else None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def package_error(error: ModuleNotFoundError) -> SesameError | None:
    """Return ``error`` as a SesameError if a package for training is not installed, None otherwise."""
    package = (error.name or "").partition(".")[0]
    if package not in TRAINING_PACKAGES:
        return None
    if not _is_installed("torch"):
        # Whichever package is imported first, it is training that is not installed.
        package = "torch"
    return SesameError(
        f"this command needs {package}, which is not installed here; use the image for training, or an installation "
        "with all requirements"
    )


def path_error(error: OSError) -> SesameError | None:
    """Return ``error`` as a SesameError that says what to do, None if it is not about a path."""
    if error.errno not in ADVICE or (error.filename is None and error.errno not in STORAGE):
        return None
    where = f"{error.filename!s}: " if error.filename is not None else ""
    # Not the exception's own text, to which libraries add theirs.
    reason = os.strerror(error.errno).lower()
    kind = StorageError if error.errno in STORAGE else SesameError
    return kind(f"{where[:300]}{reason}; {ADVICE[error.errno]}")
