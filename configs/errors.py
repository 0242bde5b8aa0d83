"""The exception tree. Each message is one sentence: what was asked, what was found, and the way out.

    SesameError            a person can mend it: the command prints the sentence and exits with code 2
    ├── ConfigError        a run's TOML file or a --set override
    ├── CorpusError        text that is to be prepared
    ├── DatasetError       a folder of prepared shards
    ├── CheckpointError    a folder that a training run has written
    ├── TrainingError      a training run whose values are not finite any more
    ├── ExchangeError      a model folder in transformers' layout, or a model that has none
    └── TaskError          the files of an evaluation task

Anything else that escapes is a defect of the program and shows its traceback.
"""


class SesameError(Exception):
    """What a person can mend: one sentence with the file, row or key, and the way out."""


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


class ExchangeError(SesameError):
    """A model folder of transformers is incomplete or unknown here, or a model of ours has no class there."""


class TaskError(SesameError):
    """The files of an evaluation task are missing or break their layout."""
