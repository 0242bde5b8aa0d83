"""Download tasks from the Hugging Face hub and write them as the TSV files of the official release.

The hub stores each split as one Parquet file with class numbers as labels. ``Table.hub_file`` names it for each TSV
file, and ``Task.hub`` maps its columns and labels.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from sesame.configs.errors import TaskError
from sesame.configs.storage import write_text
from sesame.evaluation.tasks import TASKS, HubDataset, Table, Task, glue

FETCHABLE = tuple(name for name, task in TASKS.items() if task.hub is not None)
GLUE = tuple(task.name for task in glue.ROWS if task.hub is not None)

Download = Callable[[str, str], str | Path]
"""(repository, path of a file in it) -> its path on this machine."""


def from_hub(repository: str, file: str) -> str:
    """Download one file of a repository, or return it from the hub's cache.

    Raises:
        TaskError: the package huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError:
        raise TaskError("fetching needs the package huggingface_hub: pip install 'sesame[hub]'") from None
    return hf_hub_download(repository, file, repo_type="dataset")


def fetch(output: Path, tasks: Iterable[str] = GLUE, download: Download = from_hub) -> Path:
    """Write ``tasks`` in the official layout below ``output``; existing files are kept.

    Raises:
        TaskError: a task has no hub dataset, or a file cannot be downloaded.
    """
    for name in tasks:
        task = TASKS.get(name)
        if task is None or task.hub is None:
            raise TaskError(f"'{name}' is not one of the tasks that can be fetched: {', '.join(FETCHABLE)}")
        for table in task.tables:
            path = Path(output) / table.file
            if table.hub_file is None or path.exists():
                continue
            rows = _download_rows(download, task.hub.repository, table.hub_file)
            text = "\n".join([*_lines(rows, table, task, task.hub), ""])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    return Path(output)


def _download_rows(download: Download, repository: str, file: str) -> list[dict[str, Any]]:
    try:
        return parquet.read_table(download(repository, file)).to_pylist()
    except OSError as error:
        raise TaskError(
            f"{repository}, {file}: cannot be fetched ({type(error).__name__}: {error}); try again"
        ) from None


def _lines(rows: list[dict[str, Any]], table: Table, task: Task, hub: HubDataset) -> Iterator[str]:
    """The header, if the official file has one, and one line for each row."""
    columns = [name for name in (table.index, *table.texts, table.label) if name is not None]
    if table.cells is None:
        yield "\t".join(str(name) for name in columns)
    for number, row in enumerate(rows):
        values: dict[Any, str] = {} if table.index is None else {table.index: str(number)}
        values.update(zip(table.texts, (" ".join(row[text].split()) for text in hub.texts), strict=True))
        if table.label is not None:
            values[table.label] = _label(row["label"], task, hub)
        yield "\t".join(values.get(column, "") for column in (columns if table.cells is None else range(table.cells)))


def _label(value: int | float, task: Task, hub: HubDataset) -> str:
    if task.has_scores:
        return f"{value:.3f}"
    return hub.labels[int(value)] if hub.labels else str(int(value))
