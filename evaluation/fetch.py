"""GLUE from the Hugging Face hub -> the official TSV layout, for machines with a network.

The hub keeps each split as one Parquet file with labels as numbers; here they get the names of the official files.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as parquet

from configs.errors import TaskError
from evaluation.reading import write_whole
from evaluation.tasks import TASKS, Table, Task

REPOSITORY = "nyu-mll/glue"

Source = Callable[[str], str | Path]
"""Name of a file in the repository -> its place on this machine."""


class HubTask(NamedTuple):
    """Where a task lies on the hub and what its columns and labels are called there."""

    folder: str
    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """Official label by the hub's number; empty: the number itself."""


NLI = ("entailment", "not_entailment")
HUB: dict[str, HubTask] = {
    "CoLA": HubTask("cola", ("sentence",)),
    "SST-2": HubTask("sst2", ("sentence",)),
    "MRPC": HubTask("mrpc", ("sentence1", "sentence2")),
    "STS-B": HubTask("stsb", ("sentence1", "sentence2")),
    "QQP": HubTask("qqp", ("question1", "question2")),
    "MNLI": HubTask("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "QNLI": HubTask("qnli", ("question", "sentence"), NLI),
    "RTE": HubTask("rte", ("sentence1", "sentence2"), NLI),
    "WNLI": HubTask("wnli", ("sentence1", "sentence2")),
}
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
SUFFIXES = {"matched": "_matched", "mismatched": "_mismatched"}


def from_hub(name: str) -> str:
    """Download one file of the repository, or find it in the hub's cache.

    Raises:
        TaskError: the client of the hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError:
        raise TaskError("fetching needs the hub's client: pip install 'sesame[hub]'") from None
    return hf_hub_download(REPOSITORY, name, repo_type="dataset")


def fetch(output: Path, tasks: Iterable[str] = tuple(HUB), source: Source = from_hub) -> Path:
    """Write ``tasks`` in the official layout below ``output``; files that are there already are kept.

    Raises:
        TaskError: a task is not on the hub, or a file cannot be had.
    """
    for name in tasks:
        if name not in HUB:
            raise TaskError(f"'{name}' is not one of the tasks that can be fetched: {', '.join(HUB)}")
        task = TASKS[name]
        for table in (task.train, *task.dev.values(), *task.test.values()):
            path = Path(output) / table.file
            if not path.exists():
                write_whole(path, "\n".join([*_lines(_read(source, table, task), table, task), ""]))
    return Path(output)


def hub_file(table: Table, task: Task) -> str:
    """The repository's name of one file of the official layout."""
    folder, stem = table.file.removesuffix(".tsv").split("/")
    if folder == "AX":
        return "ax/test-00000-of-00001.parquet"
    split, _, suffix = stem.partition("_")
    return f"{HUB[task.name].folder}/{SPLITS[split]}{SUFFIXES.get(suffix, '')}-00000-of-00001.parquet"


def _read(source: Source, table: Table, task: Task) -> list[dict[str, Any]]:
    name = hub_file(table, task)
    try:
        return parquet.read_table(source(name)).to_pylist()
    except OSError as error:
        raise TaskError(f"{REPOSITORY}, {name}: cannot be fetched ({type(error).__name__}: {error})") from None


def _lines(rows: list[dict[str, Any]], table: Table, task: Task) -> Iterator[str]:
    """The header, if the official file has one, and a line for each row."""
    cells = table.cells or 0
    names = [name for name in (table.index, *table.texts, table.label) if name is not None]
    if not cells:
        yield "\t".join(str(name) for name in names)
    for number, row in enumerate(rows):
        values: dict[Any, str] = {} if table.index is None else {table.index: str(number)}
        values.update(zip(table.texts, (" ".join(row[text].split()) for text in HUB[task.name].texts), strict=True))
        if table.label is not None:
            values[table.label] = _label(row["label"], task)
        yield "\t".join(values.get(place, "") for place in (range(cells) if cells else names))


def _label(value: int | float, task: Task) -> str:
    names = HUB[task.name].labels
    if not task.labels:
        return f"{value:.3f}"
    return names[int(value)] if names else str(int(value))
