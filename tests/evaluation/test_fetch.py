"""Files as the hub has them -> the official layout, without a network."""

from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from configs.errors import TaskError
from evaluation.fetch import HUB, fetch, hub_file
from evaluation.reading import read_table
from evaluation.tasks import TASKS


@pytest.fixture
def hub(tmp_path):
    """A source that makes two rows of whatever file is asked for."""

    def source(name: str) -> Path:
        folder, split = name.split("/")
        texts = next((task.texts for task in HUB.values() if task.folder == folder), ("premise", "hypothesis"))
        labels = [2.5, 5.0] if folder == "stsb" else [0, 1]
        columns = {text: [f"a\t{text}", 'b "quoted\nline'] for text in texts}
        columns |= {"label": [-1, -1] if split.startswith("test") else labels, "idx": [7, 9]}
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.table(columns), path)
        return path

    return source


@pytest.mark.parametrize("name", HUB)
def test_fetched_files_read_like_the_official_ones(name, hub, tmp_path):
    data_dir, task = fetch(tmp_path / "glue", [name], hub), TASKS[name]
    for table in (task.train, *task.dev.values(), *task.test.values()):
        examples = read_table(data_dir, table, task)
        assert examples.texts[1][0] == 'b "quoted line' and len(examples.texts) == 2
        if table.label is None:
            assert examples.indices == ["0", "1"]
    labels = read_table(data_dir, task.train, task).labels.tolist()
    official = {"MNLI": [1, 2], "QNLI": [1, 0], "RTE": [1, 0], "STS-B": [2.5, 5.0]}
    assert labels == official.get(name, [0, 1])


def test_names_of_the_repository():
    mnli = TASKS["MNLI"]
    assert hub_file(mnli.dev["mm"], mnli) == "mnli/validation_mismatched-00000-of-00001.parquet"
    assert hub_file(mnli.test["AX"], mnli) == "ax/test-00000-of-00001.parquet"
    assert hub_file(TASKS["SST-2"].train, TASKS["SST-2"]) == "sst2/train-00000-of-00001.parquet"


def test_no_network_is_one_sentence_and_writes_nothing(tmp_path):
    def source(name: str) -> Path:
        raise ConnectionError("no route")

    with pytest.raises(TaskError, match="cannot be fetched"):
        fetch(tmp_path / "glue", ["RTE"], source)
    assert not (tmp_path / "glue").exists()
