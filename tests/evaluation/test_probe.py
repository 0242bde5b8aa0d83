"""The probe tasks have the property that they are named for, and their splits have no document in common."""

import json
from pathlib import Path

import numpy as np
import pytest

from sesame.configs.errors import DatasetError
from sesame.evaluation.probe_data import write_tasks
from sesame.evaluation.reading.tables import read_table
from sesame.evaluation.tasks import TASKS, probe

WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("alo", "eri", "ino", "osu", "uta")]


@pytest.fixture
def validation_dataset(tmp_path: Path) -> Path:
    generator = np.random.default_rng(5)
    documents = []
    for _ in range(60):
        sentences = [" ".join(generator.choice(WORDS, 12)).capitalize() + "." for _ in range(12)]
        documents.append(json.dumps({"text": "\n\n".join(["HEADING", *sentences]), "source": "made"}))
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "validation_documents.jsonl").write_text("\n".join(documents) + "\n")
    return path


@pytest.fixture
def task_files(validation_dataset: Path, tmp_path: Path) -> Path:
    return write_tasks(validation_dataset, tmp_path / "tasks", 3)


def test_files_are_read_like_those_of_any_task(task_files: Path) -> None:
    for task in probe.ROWS:
        train, dev = read_table(task_files, task.tables[0], task), read_table(task_files, task.dev[""], task)
        test = read_table(task_files, task.test[task.name], task)
        assert len(train.texts) > 1.5 * len(dev.texts) > 2 * len(test.texts) and len(test.labels) == 0
        if task.labels:
            assert abs(train.labels.mean() - 0.5) < 0.01


def test_no_document_is_in_two_splits(validation_dataset: Path, task_files: Path) -> None:
    home = {}
    for number, line in enumerate((validation_dataset / "validation_documents.jsonl").read_text().splitlines()):
        home.update(dict.fromkeys(json.loads(line)["text"].split("\n\n")[1:], number))
    task = TASKS["SameDocument"]
    tables = (task.tables[0], task.dev[""], task.test["SameDocument"])
    used = [{home[text] for texts in read_table(task_files, table, task).texts for text in texts} for table in tables]
    assert not used[0] & used[1] and not used[0] & used[2] and not used[1] & used[2]
    examples = read_table(task_files, task.tables[0], task)
    for (first, second), label in zip(examples.texts, examples.labels, strict=True):
        assert (home[first] == home[second]) == bool(label) and first != second


def test_word_order_rows_are_original_or_shuffled(validation_dataset: Path, task_files: Path) -> None:
    whole = (validation_dataset / "validation_documents.jsonl").read_text()
    task = TASKS["WordOrder"]
    examples = read_table(task_files, task.tables[0], task)
    for (sentence,), label in zip(examples.texts, examples.labels, strict=True):
        assert (sentence in whole) == bool(label)


def test_words_kept_scores_are_shares_of_unchanged_words(task_files: Path) -> None:
    task = TASKS["WordsKept"]
    examples = read_table(task_files, task.tables[0], task)
    for (first, second), score in zip(examples.texts, examples.labels, strict=True):
        same = [a == b for a, b in zip(first.split(), second.split(), strict=True)]
        assert np.mean(same) == pytest.approx(score, abs=1e-3)
    assert examples.labels.std() > 0.2


def test_the_same_seed_gives_the_same_files(validation_dataset: Path, task_files: Path, tmp_path: Path) -> None:
    again, other = (write_tasks(validation_dataset, tmp_path / str(seed), seed) for seed in (3, 4))
    for file in task_files.rglob("*.tsv"):
        assert (again / file.relative_to(task_files)).read_bytes() == file.read_bytes()
    assert (other / "WordOrder" / "train.tsv").read_bytes() != (task_files / "WordOrder" / "train.tsv").read_bytes()


def test_too_little_text_is_an_error(validation_dataset: Path, tmp_path: Path) -> None:
    path = validation_dataset / "validation_documents.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(DatasetError, match="larger validation_fraction"):
        write_tasks(validation_dataset, tmp_path / "few", 1)
    path.unlink()
    with pytest.raises(DatasetError, match="no such file"):
        write_tasks(validation_dataset, tmp_path / "few", 1)
    assert not (tmp_path / "few").exists()
