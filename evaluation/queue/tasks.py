"""The tasks of a suite, encoded once: in memory, or in files that all workers map."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.queue.encoded import encoding_key, read_task, write_task
from sesame.evaluation.reading.tables import MissingFileError


class Tasks(NamedTuple):
    """The tasks of a suite."""

    tasks: Sequence[TaskData]
    folders: Mapping[str, Path]
    """Of each task by title; a name only if the tasks are in memory."""
    skipped: Mapping[str, str]
    """Reason by name of each skipped task."""


def load_tasks(config: EvaluationConfig, data_dir: Path, tokenizer_path: Path, encoded: Path | None) -> Tasks:
    """Read and encode all tasks, before any training.

    Args:
        encoded: folder in which they are kept, or were kept before; nothing is written before all are read.

    Raises:
        TaskError: a file breaks its layout, no task can run, or one is missing and ``suite.required`` is set.
    """
    tokenizer = Tokenizer.load(tokenizer_path)
    tasks, folders, skipped, table = [], {}, {}, config.task_table()
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
        folders[data.title] = folder
    if not tasks:
        raise MissingFileError(
            f"{data_dir}: holds none of {', '.join(config.suite.tasks)}; {next(iter(skipped.values()))}"
        )
    if encoded is not None:
        for folder, data in written.items():
            shutil.rmtree(folder, ignore_errors=True)
            write_task(folder, data)
    return Tasks(tasks, folders, skipped)
