"""The tasks of a suite, encoded once: in memory, or in files that all workers map."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import ConfigError, TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.queue.task_files import content_key, encoding_key, read_task, write_task
from sesame.evaluation.reading.tables import MissingFileError
from sesame.evaluation.tasks.task import Task


class StoredTask(NamedTuple):
    """A task in a folder, which stands for its data in what is sent to a worker."""

    folder: Path
    task: Task
    title: str
    """Not that of the folder: the combinations of a search have the same rows under titles of their own."""


class TaskFolders:
    """Where the encoded tasks of an evaluation are."""

    def __init__(self, folder: Path | None):
        """
        Args:
            folder: of the folders of tasks; None: they stay in this process, and their paths are names only.
        """
        self.folder = folder
        self.data: dict[Path, TaskData] = {}

    def add(self, path: Path, data: TaskData) -> None:
        """Note where a task was read from."""
        self.data[path] = data

    def detached(self, value: Any) -> Any:
        """Return a job with :class:`StoredTask` for each task in it; a task that is in no folder yet is written."""
        if isinstance(value, TaskData):
            return StoredTask(self._path(value), value.task, value.title)
        return _each_field(value, self.detached)

    def _path(self, data: TaskData) -> Path:
        for path, known in self.data.items():
            if all(getattr(known, part) is getattr(data, part) for part in ("task", "train", "dev", "test")):
                return path
        data = replace(data, title=data.task.name)
        if self.folder is None:
            path = Path(f"task {len(self.data)}")
        else:
            path = self.folder / content_key(data)[:16]
            if read_task(path, data.task, verify=True) is None:
                write_task(path, data)
        self.data[path] = data
        return path


def attached(value: Any, tasks: dict[Path, TaskData]) -> Any:
    """Return a job with its tasks in place of :class:`StoredTask`.

    Args:
        tasks: that are read already; others are added.

    Raises:
        TaskError: the folder of a task is missing or damaged.
    """
    if not isinstance(value, StoredTask):
        return _each_field(value, lambda each: attached(each, tasks))
    if value.folder not in tasks:
        data = read_task(value.folder, value.task)
        if data is None:
            raise TaskError(f"{value.folder}: the encoded task is missing or damaged; run the same command again")
        tasks[value.folder] = data
    return replace(tasks[value.folder], title=value.title)


def _each_field(value: Any, change: Any) -> Any:
    """A named tuple with its fields changed; any other value as it is."""
    if not hasattr(value, "_fields"):
        return value
    return type(value)(*map(change, value))


class Tasks(NamedTuple):
    """The tasks of a suite."""

    tasks: Sequence[TaskData]
    folders: TaskFolders
    skipped: Mapping[str, str]
    """Reason by name of each skipped task."""
    starts: Mapping[str, TaskData]
    """The tasks that others start from, by name."""


def load_tasks(
    config: EvaluationConfig,
    data_dir: Path,
    tokenizer: Tokenizer,
    tokenizer_path: Path,
    positions: int | None,
    encoded: Path | None,
) -> Tasks:
    """Read and encode all tasks, before any training.

    Args:
        tokenizer_path: of the tokenizer's file.
        positions: of the model; None: it takes sequences of any length.
        encoded: folder in which they are kept, or were kept before; nothing is written before all are read.

    Raises:
        TaskError: a file breaks its layout, no task can run, or one is missing and ``suite.required`` is set.
        ConfigError: a task has longer sequences than the model takes.
    """
    folders, skipped, table = TaskFolders(encoded), {}, config.task_table()
    tasks: list[TaskData] = []
    written: dict[Path, TaskData] = {}
    for name in config.suite.tasks:
        task, settings, predict = table[name], config.settings(name), config.suite.predict_test
        folder, data = Path(name), None
        if encoded is not None:
            folder = encoded / encoding_key(task, settings, data_dir, tokenizer_path, predict)[:16]
            data = read_task(folder, task, verify=True)
        if data is None:
            try:
                data = load_task(task, settings, data_dir, tokenizer, predict)
            except MissingFileError as error:
                if config.suite.required:
                    raise
                skipped[name] = str(error)
                continue
            written[folder] = data
        tasks.append(data)
        folders.add(folder, data)
    starts, missing = _load_starts(config, tasks, data_dir, tokenizer)
    skipped |= {data.task.name: missing[first] for data in tasks if (first := data.task.starts_from) in missing}
    tasks = [data for data in tasks if data.task.name not in skipped]
    if not tasks:
        raise MissingFileError(
            f"{data_dir}: holds none of {', '.join(config.suite.tasks)}; {next(iter(skipped.values()))}"
        )
    for data in (*tasks, *starts.values()):
        _require_positions(config, data.task.name, positions)
    if encoded is not None:
        for folder, data in written.items():
            write_task(folder, data)
    return Tasks(tasks, folders, skipped, starts)


def _require_positions(config: EvaluationConfig, task: str, positions: int | None) -> None:
    length = config.settings(task).sequence_length
    if positions is not None and length > positions:
        raise ConfigError(
            f"{task}: finetune.sequence_length {length} is more than the {positions} positions of this checkpoint's "
            f"model; use {' '.join(f'--set {change}' for change in config.shorter(positions))}"
        )


def _load_starts(
    config: EvaluationConfig, tasks: Sequence[TaskData], data_dir: Path, tokenizer: Tokenizer
) -> tuple[dict[str, TaskData], dict[str | None, str]]:
    """Return the tasks that others start from, and the reasons of those with missing files, by name."""
    found, missing, table = {data.task.name: data for data in tasks}, {}, config.task_table()
    names = dict.fromkeys(data.task.starts_from for data in tasks if data.task.starts_from is not None)
    for name in names:
        try:
            found[name] = found.get(name) or load_task(table[name], config.settings(name), data_dir, tokenizer, False)
        except MissingFileError as error:
            if config.suite.required:
                raise
            missing[name] = f"it starts from {name}: {error}"
    return {name: found[name] for name in names if name in found}, missing
