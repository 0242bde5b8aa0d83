"""Preparation of a dataset, from text to shards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.configs.errors import ConfigError, CorpusError, DatasetError, SesameError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.small_corpus import config, content, write_parts


@pytest.fixture
def files(corpus: Path, tmp_path: Path) -> list[Path]:
    return write_parts(corpus, tmp_path)


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


def test_other_recipes_write_their_columns(files: list[Path], tmp_path: Path, one_cluster: None) -> None:
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
    files: list[Path], tmp_path: Path, one_cluster: None, capsys: pytest.CaptureFixture[str]
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
    json_lines: Callable[..., Path], files: list[Path], tmp_path: Path, one_cluster: None
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


def test_a_given_model_is_used_as_it_is(dataset: Path, files: list[Path], tmp_path: Path, one_cluster: None) -> None:
    output = tmp_path / "again"
    given = dataset / "tokenizer.model"
    prepare(config(output, files[:1], tokenizer={"model": str(given)}), output)
    assert (output / "tokenizer.model").read_bytes() == given.read_bytes()
    assert open_dataset(output, verify=True).manifest.tokenizer.vocabulary_size == 320
