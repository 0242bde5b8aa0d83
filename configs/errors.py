"""The exception tree. Each message is one sentence: what was asked, what was found, and the way out.

    SesameError            a person can mend it: the command prints the sentence and exits with code 2
    ├── ConfigError        a run's TOML file or a --set override
    ├── CorpusError        text that is to be prepared
    ├── DatasetError       a folder of prepared shards
    ├── CheckpointError    a folder that a training run has written
    ├── TrainingError      a training run whose values are not finite any more
    ├── ConversionError      a model folder in transformers' layout, or a model that has none
    └── TaskError          the files of an evaluation task

Anything else that escapes is a defect of the program and shows its traceback.
"""

import errno


def one_line(text: object) -> str:
    """A text of which no part can begin a line of its own: names in it may be from files of others."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))


class SesameError(Exception):
    """What a person can mend: one sentence with the file, row or key, and the way out."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(SesameError):
    """A configuration file or override is wrong."""


class CorpusError(SesameError):
    """The text that is to be prepared is missing, empty or unreadable."""


class DatasetError(SesameError):
    """A prepared dataset is incomplete, damaged or does not fit the run."""


class CheckpointError(SesameError):
    """A checkpoint is incomplete, damaged or does not fit the run."""


class TrainingError(SesameError):
    """A training run has diverged."""


class ConversionError(SesameError):
    """A model folder of transformers is incomplete or unknown here, or a model of ours has no class there."""


class TaskError(SesameError):
    """The files of an evaluation task are missing or break their layout."""


WAYS_OUT = {
    errno.ENOENT: "give one that is there",
    errno.ENOTDIR: "a file stands where a folder is needed; give another path",
    errno.EISDIR: "it is a folder, but a file is needed; give another path",
    errno.EEXIST: "something else has this name; give another path",
    errno.ENOTEMPTY: "it is not empty; give another path",
    errno.EACCES: "change its permissions or give another path",
    errno.EPERM: "change its permissions or give another path",
    errno.EROFS: "give a path that can be written to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link leads back to itself; give another path",
    errno.ENOSPC: "make room or give a path on another disk; the same command then goes on",
    errno.EDQUOT: "make room or give a path on another disk; the same command then goes on",
    errno.EFBIG: "give a path on a file system that takes larger files",
    errno.EIO: "the disk has a fault; give a path on another one",
    errno.EBUSY: "it is in use; give another path",
    errno.EXDEV: "it is another file system; give a path that is not",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""What a person can do about an error of the operating system."""
WITHOUT_PATH = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
"""Errors of writing, which name no path."""


def path_error(error: OSError) -> SesameError | None:
    """What a person is told of a path that cannot be used; None for an error that is not about a path."""
    if error.errno not in WAYS_OUT or (error.filename is None and error.errno not in WITHOUT_PATH):
        return None
    where = f"{error.filename!s}: " if error.filename is not None else ""
    reason = (error.strerror or "").lower()
    return SesameError(f"{where[:300]}{reason}; {WAYS_OUT[error.errno]}")
