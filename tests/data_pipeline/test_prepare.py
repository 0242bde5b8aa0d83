"""Preparation of a dataset, from text to shards."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sesame.configs import dump, parse
from sesame.configs.errors import ConfigError, CorpusError, DatasetError, SesameError
from sesame.data_pipeline import workers
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.ledger import Ledger
from sesame.data_pipeline.prepare import RESULTS, CorpusConfig, prepare
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify


def config(output: Path, paths: list[Path], workers: int = 2, **sections: dict[str, Any]) -> CorpusConfig:
    values: dict[str, Any] = {
        "output": str(output),
        "seed": 3,
        "source": {"kind": "json_lines", "paths": [str(path) for path in paths]},
        "tokenizer": {"vocabulary_size": 300},
        "segment": {"kind": "next_sentence", "sequence_length": 48},
        "shards": {"rows_per_shard": 300, "validation_fraction": 0.1},
        "workers": {"count": workers},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values, CorpusConfig, "the test's corpus")


@pytest.fixture
def files(corpus: Path, tmp_path: Path) -> list[Path]:
    """The corpus in six files, so that there are several parts to work on at once."""
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    paths = [tmp_path / f"part-{number}.jsonl" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_text("".join(lines[number::6]), encoding="utf-8")
    return paths


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One Ray cluster for all of a test's preparations."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger"), RESULTS)
    with workers.Workers(workers.WorkersConfig(count=2), Console(), ledger), pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.ray, "init", lambda **_: None)
        patch.setattr(workers.ray, "shutdown", lambda: None)
        yield


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def test_the_bytes_do_not_depend_on_the_number_of_workers(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 1)
    made = {}
    for count in (1, 2, 4):
        output = tmp_path / f"workers-{count}"
        twice = {"dupe_factor": 2}
        made[count] = content(prepare(config(output, files, count, segment=twice), output))
    assert len(made[1]) > 6, "several shards"
    assert made[1] == made[2] == made[4]


def test_each_row_can_be_traced_to_its_text(dataset: Path) -> None:
    """Labels put back in place, the first segment of a validation row is found in the document that it names."""
    opened = open_dataset(dataset, verify=True)
    tokenizer = Tokenizer.load(opened.tokenizer_path)
    documents = [json.loads(line)["text"].lower() for line in opened.documents_path.read_text("utf-8").splitlines()]
    rows = opened.split("validation")
    columns = rows.take(np.arange(rows.rows))
    tokens, positions, labels = (columns[name] for name in ("tokens", "mask_positions", "mask_labels"))
    assert isinstance(tokens, Ragged) and isinstance(positions, Ragged) and isinstance(labels, Ragged)
    original = tokens.values.copy()
    original[positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)] = labels.values
    for row in range(rows.rows):
        ids = original[tokens.offsets[row] : tokens.offsets[row + 1]]
        first = int(columns["first_segment_length"][row])  # type: ignore[arg-type]
        own = documents[int(columns["document"][row])]  # type: ignore[arg-type]
        assert tokenizer.decode(ids[1 : first - 1]) in own
        second = tokenizer.decode(ids[first:-1])
        assert any(second in document for document in documents)
        assert columns["pair_labels"][row] or second in own  # type: ignore[index]


def test_other_recipes_write_their_columns(files: list[Path], tmp_path: Path, cluster: Any) -> None:
    every = ("tokens", "first_segment_length", "mask_positions", "mask_labels", "pair_labels", "document")
    expected = {
        ("sentence_order", "masked_words"): every,
        ("full_sentences", "masked_tokens"): tuple(name for name in every if name != "pair_labels"),
        ("contiguous", "nothing"): ("tokens", "first_segment_length", "document"),
    }
    for (segments, corruption), columns in expected.items():
        output = tmp_path / segments
        kinds: Any = {"segment": {"kind": segments}, "corrupt": {"kind": corruption}}
        prepare(config(output, files[:2], **kinds), output)
        assert open_dataset(output, verify=True).manifest.columns == columns
        assert verify(output)


def test_train_and_validation_documents_are_disjoint(dataset: Path, corpus: Path) -> None:
    opened = open_dataset(dataset, verify=False)
    validation = {json.loads(line)["source"] for line in opened.documents_path.read_text("utf-8").splitlines()}
    counts = opened.manifest.documents
    assert 10 < len(validation) == counts["held out"] < 60
    assert counts["read"] == counts["kept for training"] + counts["held out"] == len(corpus.read_text().splitlines())
    train = opened.split("train")
    assert int(np.max(train.take(np.arange(train.rows))["document"])) < counts["kept for training"]  # type: ignore


def test_complete_datasets_are_not_overwritten(
    files: list[Path], tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dataset"
    output.mkdir()
    prepare(config(output, files), output)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert prepare(config(output, files, workers=1), output) == output
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="another recipe; choose another --output"):
        prepare(config(output, files, corrupt={"mask_probability": 0.3}), output)
    files[0].write_text(files[0].read_text() + '{"text": "more"}\n')
    with pytest.raises(DatasetError, match="its input has changed"):
        prepare(config(output, files), output)
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


def test_a_folder_with_other_files_is_rejected(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "home"
    output.mkdir()
    (output / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match="is not a dataset; choose another --output"):
        prepare(config(output, files), output)
    assert [path.name for path in output.iterdir()] == ["letter.txt"]


def test_other_files_in_the_folder_of_an_unfinished_dataset_are_kept(files: list[Path], tmp_path: Path) -> None:
    partial = tmp_path / "home.partial"
    partial.mkdir()
    (partial / "train-00000.arrow").write_text("unfinished")
    (partial / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match=r"has letter\.txt, which `sesame prepare` did not write; move that"):
        prepare(config(tmp_path / "home", files), tmp_path / "home")
    assert sorted(path.name for path in partial.iterdir()) == ["letter.txt", "train-00000.arrow"]


def test_errors_are_one_sentence_and_leave_no_files(
    json_lines: Callable[..., Path], files: list[Path], tmp_path: Path, cluster: Any
) -> None:
    empty = json_lines([], "empty.jsonl")
    short = json_lines(["short"] * 5, "short.jsonl")
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'{"text": "fine"}\n{"text": "\xff"}\n')
    output = tmp_path / "dataset"
    cases: list[tuple[CorpusConfig, type[SesameError], str]] = [
        (config(output, [empty]), CorpusError, r"no document to train on \(0 read"),
        (config(output, [short]), CorpusError, r"no document to train on \(5 read.*5 dropped: short"),
        (config(output, [broken]), CorpusError, r"broken.jsonl:2: is not UTF-8"),
        (config(output, [tmp_path / "missing.jsonl"]), CorpusError, r"missing.jsonl: no such file"),
        (config(output, files, tokenizer={"vocabulary_size": 30000}), CorpusError, "vocabulary_size 30000"),
        (config(output, files, tokenizer={"model": str(empty)}), ConfigError, r"empty.jsonl: is not a sentencepiece"),
        (config(output, files, tokenizer={"model": "no.model"}), ConfigError, r"no.model: .*cannot be read"),
    ]
    for wrong, kind, sentence in cases:
        with pytest.raises(kind, match=sentence) as caught:
            prepare(wrong, output)
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("dataset*"))


def test_a_given_model_is_used_as_it_is(dataset: Path, files: list[Path], tmp_path: Path, cluster: Any) -> None:
    output = tmp_path / "again"
    given = dataset / "tokenizer.model"
    prepare(config(output, files[:1], tokenizer={"model": str(given)}), output)
    assert (output / "tokenizer.model").read_bytes() == given.read_bytes()
    assert open_dataset(output, verify=True).manifest.tokenizer.vocabulary_size == 320


PREPARE = """
import json, sys
from pathlib import Path
from sesame.configs import dump, parse
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.prepare import RESULTS, CorpusConfig, prepare
balance.GROUP_CHARACTERS = 1
values = json.loads(sys.argv[1])
prepare(parse(values, CorpusConfig, "the test's corpus"), Path(values["output"]))
"""


@pytest.fixture
def whole(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of an uninterrupted run with many small groups."""
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 1)
    return content(prepare(config(tmp_path / "whole", files), tmp_path / "whole"))


def interrupted(values: dict[str, Any], seconds: float) -> bool:
    """Run ``sesame prepare`` and kill it after so many seconds; return True if it finished before."""
    process = subprocess.Popen([sys.executable, "-c", PREPARE, json.dumps(values)], stdout=subprocess.DEVNULL)
    try:
        assert process.wait(seconds) == 0
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


def test_a_killed_run_continues_and_gives_the_same_bytes(
    files: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "dataset"
    values = dump(config(output, files)) | {"output": str(output)}
    kills = 0
    # The time grows, so that a slow machine finishes too.
    while not interrupted(values, 2.5 * 1.25**kills):
        kills += 1
        if output.exists():
            # Killed after the final rename.
            break
        assert kills < 20
    assert kills >= 2
    assert content(output) == whole
    assert not list(tmp_path.glob("dataset.*"))


def test_finished_jobs_are_not_repeated(
    files: list[Path], tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dataset"

    def fails(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sesame.data_pipeline.prepare.write_manifest", fails)
        with pytest.raises(KeyboardInterrupt):
            prepare(config(output, files), output)
    capsys.readouterr()
    prepare(config(output, files), output)
    output_text = capsys.readouterr().out
    assert "read and clean: 6 parts (6 of them finished before)" in output_text
    assert "train the tokenizer" not in output_text
    assert verify(output)


def test_another_recipe_does_not_use_what_an_interrupted_one_left(
    files: list[Path], tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dataset"
    partial = tmp_path / "dataset.partial"
    (partial / "work" / "ledger").mkdir(parents=True)
    (partial / "identity.json").write_text("{}")
    (partial / "work" / "ledger" / "read-and-clean-000000.json").write_text('{"Reading": []}')
    prepare(config(output, files), output)
    assert "finished before" not in capsys.readouterr().out


def test_a_locked_folder_is_rejected(files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    (tmp_path / "dataset.partial").mkdir()
    with (tmp_path / "dataset.partial" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another `sesame prepare` is at work there"):
            prepare(config(output, files), output)


@pytest.mark.slow
def test_twenty_kills_at_random_times_do_not_change_the_bytes(
    files: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "dataset"
    values = dump(config(output, files)) | {"output": str(output)}
    rng = random.Random(1)
    for _ in range(20):
        if interrupted(values, rng.uniform(0.5, 8.0)):
            assert content(output) == whole
            shutil.rmtree(output)
    while not interrupted(values, 60):
        pass
    assert content(output) == whole


def busy_workers() -> list[int]:
    """Process ids of Ray workers that are in the middle of a job."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith((b"ray::read_unit", b"ray::make_examples", b"ray::gather_shard")):
            found.append(int(folder.name))
    return found


def test_killed_workers_do_not_change_the_bytes(files: list[Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(killed) < 4:
            for process in set(busy_workers()[:1]) - killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    killed.add(process)
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        prepare(config(tmp_path / "dataset", files), tmp_path / "dataset")
    finally:
        over.set()
        thread.join()
    assert killed
    assert content(tmp_path / "dataset") == whole
