"""Conversion of the hub's files to the official layout, without network access."""

from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sesame.configs.errors import TaskError
from sesame.evaluation.fetch import FETCHABLE, GLUE, Download, fetch
from sesame.evaluation.reading.tables import read_table
from sesame.evaluation.tasks import TASKS


@pytest.fixture
def hub(tmp_path: Path) -> Download:
    """A download function that writes two rows into any file."""

    def download(repository: str, name: str) -> Path:
        assert repository in {task.hub.repository for task in TASKS.values() if task.hub}
        folder, split = name.split("/")
        texts = next(
            task.hub.texts for task in TASKS.values() if task.hub and name in [table.hub_file for table in task.tables]
        )
        labels = [2.5, 5.0] if folder == "stsb" else [0, 1]
        columns = {text: [f"a\t{text}", 'b "quoted\nline'] for text in texts}
        columns |= {"label": [-1, -1] if split.startswith("test") else labels, "idx": [7, 9]}
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.table(columns), path)
        return path

    return download


@pytest.mark.parametrize("name", FETCHABLE)
def test_fetched_files_are_read_like_the_official_ones(name: str, hub: Download, tmp_path: Path) -> None:
    data_dir, task = fetch(tmp_path / "glue", [name], hub), TASKS[name]
    for table in (table for table in task.tables if not table.optional):
        examples = read_table(data_dir, table, task)
        assert examples.texts[1][0] == 'b "quoted line' and len(examples.texts) == 2
        if table.label is None:
            assert examples.indices == ["0", "1"]
    labels = read_table(data_dir, task.tables[0], task).labels.tolist()
    official = {"MNLI": [1, 2], "QNLI": [1, 0], "RTE": [1, 0], "STS-B": [2.5, 5.0]}
    assert labels == official.get(name, [0, 1])


def test_file_names_of_the_repository() -> None:
    mnli = TASKS["MNLI"]
    assert mnli.dev["mm"].hub_file == "mnli/validation_mismatched-00000-of-00001.parquet"
    assert mnli.test["AX"].hub_file == "ax/test-00000-of-00001.parquet"
    assert TASKS["SST-2"].tables[0].hub_file == "sst2/train-00000-of-00001.parquet"


def test_columns_and_labels_of_the_hub_fit_the_task() -> None:
    assert GLUE == ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")
    assert set(GLUE) <= set(FETCHABLE)
    assert {task.hub.repository for name in GLUE if (task := TASKS[name]).hub} == {"nyu-mll/glue"}
    # A task that starts from another one has the files of the plain one; labels of AX are not on the hub.
    for task in (task for task in TASKS.values() if task.starts_from is None):
        required = [table for table in task.tables if not table.optional]
        assert all((table.hub_file is not None) == (task.hub is not None) for table in required)
        if task.hub is not None:
            assert all(len(table.texts) == len(task.hub.texts) for table in task.tables)
            assert set(task.hub.labels) in (set(), set(task.labels))


def test_a_task_without_a_hub_dataset_cannot_be_fetched(tmp_path: Path) -> None:
    for name in ("WordOrder", "SST2"):
        with pytest.raises(TaskError, match=f"'{name}' is not one of the tasks that can be fetched: CoLA, "):
            fetch(tmp_path, [name])


def test_a_failed_download_is_one_sentence_and_writes_nothing(tmp_path: Path) -> None:
    def download(repository: str, name: str) -> Path:
        raise ConnectionError("no route")

    with pytest.raises(TaskError, match="cannot be fetched"):
        fetch(tmp_path / "glue", ["RTE"], download)
    assert not (tmp_path / "glue").exists()
