"""Damaged files are detected, and wrong rows with correct checksums too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sesame import configs
from sesame.configs.errors import DatasetError
from sesame.data_pipeline import workers
from sesame.data_pipeline.dataset.manifest import MANIFEST, read_manifest
from sesame.data_pipeline.dataset.shards import PLACES, open_dataset
from sesame.data_pipeline.dataset.statistics import count, summarize
from sesame.data_pipeline.examples.corrupt import UNITS
from sesame.data_pipeline.ledger import Ledger
from sesame.data_pipeline.prepare import RESULTS, CorpusConfig, prepare
from sesame.data_pipeline.ragged import Columns, Ragged, boundaries
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.verification.changed_datasets import resign

Opener = Callable[[Path], Any]
OPENERS: dict[str, Opener] = {"verify": verify, "training": lambda path: open_dataset(path, verify=True)}


def small(corpus: Path, output: Path, segments: str, corruption: str) -> Path:
    values = {
        "seed": 1,
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(corpus)], "limit_megabytes": 0.05},
        "tokenizer": {"vocabulary_size": 200},
        "segment": {"kind": segments, "sequence_length": 48},
        "corrupt": {"kind": corruption},
        "shards": {"validation_fraction": 0.1, "rows_per_shard": 400},
        "workers": {"count": 1},
    }
    return prepare(configs.parse(values, CorpusConfig, "the test's corpus"), output)


@pytest.fixture(scope="session")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small dataset of each kind of corruption, with swapped pairs, by that kind."""
    folder = tmp_path_factory.mktemp("made")
    cluster = workers.Workers(workers.WorkersConfig(count=1), Console(), Ledger(folder / "ledger", RESULTS))
    with cluster, pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers.ray, "init", lambda **_: None)
        patch.setattr(workers.ray, "shutdown", lambda: None)
        return {kind: small(corpus, folder / kind, "sentence_order", kind) for kind in UNITS}


def test_a_correct_dataset_is_described(dataset: Path) -> None:
    text = "\n".join(verify(dataset))
    for word in ("checksums", "documents", "train", "validation", "lengths", "masking", "pairs", "nat"):
        assert word in text


def test_every_kind_of_corruption_passes(made: dict[str, Path]) -> None:
    whole = {kind: "masked whole" in "\n".join(verify(path)) for kind, path in made.items()}
    assert whole == {"masked_tokens": False, "masked_words": True, "masked_ngrams": True}


def test_two_hundred_random_damages_are_detected(made: dict[str, Path], tmp_path: Path) -> None:
    """Flipped bytes, truncated and missing files, for every file of a dataset; the message names the file."""
    copy = Path(shutil.copytree(made["masked_words"], tmp_path / "copy"))
    names = sorted(path.name for path in copy.iterdir())
    assert len(names) > 5 and MANIFEST in names
    draw, kinds = np.random.default_rng(20), {"flipped": 140, "cut": 40, "missing": 20}
    for kind in np.repeat(list(kinds), list(kinds.values())):
        file = copy / str(draw.choice(names))
        intact = file.read_bytes()
        position = int(draw.integers(len(intact)))
        if kind == "missing":
            file.unlink()
        elif kind == "cut":
            file.write_bytes(intact[:position])
        else:
            file.write_bytes(
                intact[:position] + bytes([intact[position] ^ 1 << int(draw.integers(8))]) + intact[position + 1 :]
            )
        for opener in OPENERS.values():
            with pytest.raises(DatasetError, match=file.name) as caught:
                opener(copy)
            assert "\n" not in str(caught.value)
        file.write_bytes(intact)
    assert verify(copy)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_folder_or_an_unreadable_link_in_place_of_a_file_is_named(copy: Path, opener: str) -> None:
    for name in ("train-00000.arrow", "tokenizer.model", PLACES, MANIFEST):
        file = copy / name
        moved = file.rename(copy.parent / name)
        file.mkdir()
        with pytest.raises(DatasetError, match=name):
            OPENERS[opener](copy)
        file.rmdir()
        file.symlink_to(file)
        with pytest.raises(DatasetError, match=name):
            OPENERS[opener](copy)
        file.unlink()
        moved.rename(file)


def fill(column: str, value: int, row: int | None = None) -> Callable[[Columns], None]:
    """Overwrite a column, or one row of it."""

    def change(columns: Columns) -> None:
        found = columns[column]
        if isinstance(found, Ragged):
            rows = slice(None) if row is None else slice(*found.offsets[row : row + 2])
            found.values[rows] = value
        else:
            found[slice(None) if row is None else row] = value

    return change


def special_in_the_text(columns: Columns) -> None:
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    tokens.values[tokens.offsets[3] + 1] = tokens.values[0]


def contradicted_label(columns: Columns) -> None:
    labels = columns["pair_labels"]
    assert isinstance(labels, np.ndarray)
    labels[5] ^= 1


def without(keep: Callable[[Ragged], np.ndarray]) -> Callable[[Columns], None]:
    """Only some predictions stay."""

    def change(columns: Columns) -> None:
        positions, labels = columns["mask_positions"], columns["mask_labels"]
        assert isinstance(positions, Ragged) and isinstance(labels, Ragged)
        stays = keep(positions)
        owner = np.repeat(np.arange(len(positions.lengths)), positions.lengths)
        offsets = boundaries(np.bincount(owner[stays], minlength=len(positions.lengths)))
        columns["mask_positions"] = Ragged(positions.values[stays], offsets)
        columns["mask_labels"] = Ragged(labels.values[stays], offsets)
        tokens = columns["tokens"]
        assert isinstance(tokens, Ragged)
        tokens.values[(positions.values + tokens.offsets[owner])[~stays]] = labels.values[~stays]

    return change


def every_second(positions: Ragged) -> np.ndarray:
    return np.arange(len(positions.values)) % 2 == 0


def ends_of_runs(positions: Ragged) -> np.ndarray:
    """Of neighbours only the last one stays, so that words of several pieces lose some."""
    inside = np.append(np.diff(positions.values.astype(np.int64)) == 1, False)
    inside[positions.offsets[1:] - 1] = False
    return ~inside


def rounded_down(columns: Columns) -> None:
    """No row has more predictions than its share rounded down: each may, but all of them do not by chance."""
    tokens, labels = columns["tokens"], columns["mask_labels"]
    assert isinstance(tokens, Ragged) and isinstance(labels, Ragged)
    least = np.maximum(1, np.floor((tokens.lengths - 3) * 0.15)).astype(int)
    rank = np.arange(len(labels.values)) - np.repeat(labels.offsets[:-1], labels.lengths)
    stays = rank < np.repeat(least, labels.lengths)
    without(lambda _: stays)(columns)


def unmasked(columns: Columns) -> None:
    """Every predicted token shows as itself."""
    tokens, positions, labels = (columns[name] for name in ("tokens", "mask_positions", "mask_labels"))
    assert isinstance(tokens, Ragged) and isinstance(positions, Ragged) and isinstance(labels, Ragged)
    tokens.values[positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)] = labels.values


ROWS: dict[str, tuple[Callable[[Columns], None], str]] = {
    "tokens": (fill("tokens", 7), "row 0 (does not begin|does not end|has no \\[SEP\\])"),
    "a known id": (fill("tokens", 60000), "row 0 (does not begin|has ids)"),
    "first segment": (fill("first_segment_length", 60000), "row 0 has no \\[SEP\\] where the first segment ends"),
    "first segment of one": (fill("first_segment_length", 40000, 9), "row 9 has no \\[SEP\\] where the first"),
    "special": (special_in_the_text, "row 3 has a special token in its text"),
    "positions": (fill("mask_positions", 200), "row 0 predicts positions or ids that do not exist"),
    "labels": (fill("mask_labels", 60000, 4), "row 4 predicts positions or ids that do not exist"),
    "a label": (fill("mask_labels", 3, 4), "row 4 predicts a special token"),
    "document": (fill("document", 10**6, 2), "row 2 names a document that does not exist"),
    "second document": (fill("second_document", 10**6, 2), "row 2 names a second document that does not exist"),
    "pair label": (contradicted_label, "row 5 has a pair label that its documents contradict"),
    "few predictions": (without(every_second), "has fewer predictions than its recipe asks for"),
    "masks": (unmasked, "differ from the rows"),
}


@pytest.mark.parametrize("case", ROWS)
def test_wrong_rows_with_correct_checksums_are_reported(copy: Path, case: str) -> None:
    change, sentence = ROWS[case]
    resign(copy, change)
    with pytest.raises(DatasetError, match=rf"{copy.name}.*{sentence}.*prepare"):
        verify(copy)


def test_a_small_deviation_of_the_rate_in_every_row_is_detected(made: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made["masked_tokens"], tmp_path / "copy"))
    resign(copy, rounded_down)
    manifest, opened = read_manifest(copy), open_dataset(copy, verify=False)
    special = manifest.tokenizer.special
    train, validation = (count(opened.split(name).blocks(), 200, special) for name in ("train", "validation"))
    record = manifest.splits["train"].model_copy(update={"predictions": train.predictions})
    observed = summarize(train, validation, manifest.columns)._asdict()
    resign(copy, splits={**manifest.splits, "train": record}, **observed)
    with pytest.raises(DatasetError, match=r"copy: [\d,]+ tokens are predicted, but [\d,]+ by the recipe"):
        verify(copy)


def test_pair_labels_that_the_text_contradicts_are_detected(made: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made["masked_tokens"], tmp_path / "copy"))
    resign(copy, fill("pair_labels", 0), pair_share=0.0)
    with pytest.raises(DatasetError, match=r"row \d+ has a pair label that its text contradicts"):
        verify(copy)


@pytest.mark.parametrize("kind", ["masked_words", "masked_ngrams"])
def test_a_partly_masked_word_is_detected(made: dict[str, Path], tmp_path: Path, kind: str) -> None:
    copy = Path(shutil.copytree(made[kind], tmp_path / "copy"))
    resign(copy, without(ends_of_runs))
    with pytest.raises(DatasetError, match=r"train-00000.arrow: row \d+ masks a part of a word"):
        verify(copy)
