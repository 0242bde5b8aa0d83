"""Encoded tasks on disk: equal to those in memory, mapped, and of exactly what they depend on."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.queue.task_files import INDEX, TRAINING_SETTINGS, encoding_key, read_task, write_task
from sesame.evaluation.queue.tasks import TaskFolders, attached
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import Table, Task


def examples(generator: np.random.Generator, rows: int) -> EncodedExamples:
    """Rows with everything that a row can have."""
    counts = generator.integers(1, 4, rows)
    sequences = int(counts.sum())
    return EncodedExamples(
        [generator.integers(0, 99, generator.integers(3, 60)).astype(np.int32) for _ in range(sequences)],
        generator.integers(1, 3, sequences),
        generator.integers(0, 2, rows),
        [f"row/{number}" for number in range(rows)],
        counts,
        generator.integers(0, 3, (sequences, 2, 2)),
        generator.integers(0, 5, rows),
        [("a", "b")[: number % 3] for number in range(rows)],
        truncated=3,
    )


def as_plain(value: Any) -> Any:
    """Nested lists with the types of arrays, to be compared."""
    if dataclasses.is_dataclass(value) and not isinstance(value, Task):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    return [as_plain(each) for each in value] if isinstance(value, list) else value


@pytest.fixture
def data() -> TaskData:
    generator = np.random.default_rng(1)
    unlabelled = dataclasses.replace(examples(generator, 7), labels=np.array([], np.int64), counts=None, spans=None)
    return TaskData(
        TASKS["RTE"], "RTE (7 rows)", examples(generator, 900), {"": examples(generator, 3)}, {"RTE": unlabelled}, ["a"]
    )


def test_what_is_read_is_what_was_written(data: TaskData, tmp_path: Path) -> None:
    write_task(tmp_path / "key", data)
    found = read_task(tmp_path / "key", TASKS["RTE"], verify=True)
    assert found is not None and as_plain(found) == as_plain(data)
    assert found.train is not None and found.train.digest == data.train.digest  # pyright: ignore[reportOptionalMemberAccess]
    base = found.train.tokens[5]
    while not isinstance(base, np.memmap):
        assert base.base is not None, "the tokens are in memory"
        base = base.base


def test_the_same_rows_are_written_once(data: TaskData, tmp_path: Path) -> None:
    """The combinations of a search have the same rows under other titles, and so has the same search started again."""
    titled = [dataclasses.replace(data, title=f"RTE, search: epochs {epochs}") for epochs in (2, 3)]
    assert data.train is not None
    other = dataclasses.replace(data, train=dataclasses.replace(data.train, groups=data.train.labels))
    folders = TaskFolders(tmp_path / "encoded")
    stored = [folders.detached(each) for each in (*titled, other)]
    paths = [each.folder for each in stored]
    assert paths[0] == paths[1] != paths[2] and set((tmp_path / "encoded").iterdir()) == set(paths)
    again = TaskFolders(tmp_path / "encoded").detached(titled[1])
    assert again.folder == paths[0]
    read: dict[Path, TaskData] = {}
    found = [attached(each, read) for each in stored]
    assert [each.title for each in found] == [titled[0].title, titled[1].title, "RTE (7 rows)"] and len(read) == 2
    assert found[0].train is found[1].train is not None, "the rows are in memory once"
    assert as_plain(found[1]) == as_plain(titled[1]) and as_plain(found[2]) == as_plain(other)


def test_what_is_damaged_is_not_read(data: TaskData, tmp_path: Path) -> None:
    folder = tmp_path / "key"
    write_task(folder, data)
    largest = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[:-4] + bytes(4))
    assert read_task(folder, TASKS["RTE"], verify=True) is None
    largest.write_bytes(content[:-4])
    assert read_task(folder, TASKS["RTE"]) is None
    largest.write_bytes(content)
    (folder / INDEX).write_text((folder / INDEX).read_text()[:-9])
    assert read_task(folder, TASKS["RTE"]) is None and read_task(tmp_path / "none", TASKS["RTE"]) is None


def test_a_value_without_a_form_on_disk_is_a_defect(data: TaskData, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set of an encoded task cannot be written"):
        write_task(tmp_path / "key", dataclasses.replace(data, notes={"a"}))  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "key").exists()


def test_the_key_has_all_that_the_encoding_depends_on(letters: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.model"
    tokenizer.write_bytes(b"letters")
    task, settings = TASKS["SST-2"], FinetuneConfig()

    def key(*, task: Task = task, predict: bool = True, **changes: Any) -> str:
        return encoding_key(task, settings.model_copy(update=changes), letters, tokenizer, predict)

    first = key()
    assert key(learning_rate=1.0, epochs=9, dropout=0.5) == first
    others = [
        key(sequence_length=64),
        key(limit_train_rows=7),
        key(split_dev=True),
        key(predict=False),
        key(task=dataclasses.replace(task, labels=("1", "0"))),
    ]
    (letters / "SST-2" / "dev.tsv").write_text("sentence\tlabel\nzz\t1\n")
    others.append(key())
    (letters / "SST-2" / "dev.tsv").rename(letters / "SST-2" / "dev[1].tsv")
    (letters / "SST-2" / "dev.tsv.zst").write_bytes(b"compressed")
    others.append(key())
    assert task.train is not None
    more = dataclasses.replace(task.train, also=("SST-2/more.tsv",), labels_file="SST-2/labels.json")
    for name in ("more.tsv", "labels.json"):
        (letters / "SST-2" / name).write_text(name)
        others.append(key(task=dataclasses.replace(task, train=more)))
    bracketed = dataclasses.replace(task, dev={"": dataclasses.replace(task.dev[""], file="SST-2/dev[1].tsv")})
    others.append(key(task=bracketed))
    (letters / "SST-2" / "dev[1].tsv").write_text("sentence\tlabel\nzz\t0\n")
    others.append(key(task=bracketed))
    tokenizer.write_bytes(b"others")
    others.append(key())
    assert len({first, *others}) == len(others) + 1


def test_settings_of_training_alone_change_no_encoding(letter_tokenizer: Tokenizer, letters: Path) -> None:
    """Each of them is changed; what is not in the list is in the key."""
    assert set(TRAINING_SETTINGS) <= set(FinetuneConfig.model_fields)
    changed = {"learning_rate": 1.0, "batch_size": 1, "epochs": 1, "pooling": "pair", "precision": "fp32"}
    changed |= {"select": "best", "hidden_layer": False, "dropout": 0.5, "weight_decay": 0.3}
    plain, other = FinetuneConfig(), FinetuneConfig(**changed)
    found = [load_task(TASKS["SST-2"], each, letters, letter_tokenizer, True) for each in (plain, other)]
    assert as_plain(found[0]) == as_plain(found[1])


def test_a_suite_ignores_where_jobs_run() -> None:
    values = {"tasks": ("RTE",)}
    plain = EvaluationConfig(suite=values)  # pyright: ignore[reportArgumentType]
    workers = EvaluationConfig(suite=values, queue={"workers": 3}, follow={"at": (1.0,)})  # pyright: ignore[reportArgumentType]
    assert plain.recipe() == workers.recipe()
    assert isinstance(TASKS["RTE"].train, Table)
