"""``sesame verify`` detects faults that are introduced into the rows of a dataset, with new checksums and counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.configs.storage import digest
from sesame.data_pipeline.dataset.manifest import read_manifest, write_manifest
from sesame.data_pipeline.dataset.provenance import places
from sesame.data_pipeline.dataset.shards import DOCUMENTS, SPLITS, Dataset, open_dataset
from sesame.data_pipeline.ragged import Columns, Ragged, boundaries
from sesame.data_pipeline.verification.coverage import Coverage, share_in_long_sentences
from sesame.data_pipeline.verification.documents import read_documents
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_prose import prepared
from tests.data_pipeline.verification.changed_datasets import LONG, TEXTS, Write, assert_refused, changed, of_rows

pytestmark = pytest.mark.usefixtures("in_process")


def test_correct_datasets_pass(plain: Dataset, pairs: Dataset, tmp_path: Path) -> None:
    for dataset in (plain, pairs, changed(plain, tmp_path / "same", lambda columns: None)):
        found = "\n".join(verify(dataset.path))
        assert "decode to text that is in their documents" in found and "warning" not in found


@pytest.mark.parametrize("clean", [{}, {"drop_repeated_paragraphs": True}, {"unicode_form": "NFKC"}])
def test_invisible_characters_and_other_than_letters_pass(
    json_lines: Write, tmp_path: Path, clean: dict[str, Any]
) -> None:
    """Joiners, soft hyphens, half surrogate pairs, ligatures and white space of all kinds."""
    strange = [
        "\u200c",
        "\u200d",
        "\u00ad",
        "\u200b",
        "\u2060",
        " \u00b4 ",
        "\u00a0",
        "\u3000",
        "\ufb01",
        "\ud83d",
        "e\u0301",
    ]
    strange += ["\u202f", "\u2003", "\u2026", "\u00bd", "\U0001f600", "\u0301", "\u1e9e", "\u0130", "\u2028", "\u0007"]
    texts = [
        f"{text[:300]}{strange[number % len(strange)]}{text[300:600]} {strange[number % len(strange)]}\n\n{text[600:]}"
        for number, text in enumerate(TEXTS)
    ]
    made = prepared(json_lines(texts), tmp_path / "made", "full_sentences", clean=clean)
    assert any(line.startswith("text: ") and "0 rows of 0" not in line for line in verify(made.path))


def with_changed_spaces(dataset: Dataset, join: bool) -> Callable[[Columns], Columns]:
    """One word within a row loses the space before it, or a piece within a word gets one."""
    tokenizer = ReferenceTokenizer.load(dataset.tokenizer_path, dataset.manifest.tokenizer.special)
    numbers = {text: token for token, text in enumerate(tokenizer.texts) if text}

    def change(columns: Columns) -> Columns:
        tokens: Any = columns["tokens"]
        row = int(np.flatnonzero(tokens.lengths < 100)[0])
        start, stop = tokens.offsets[row] + 1, tokens.offsets[row + 1] - 1
        texts = [tokenizer.texts[token] for token in tokens.values[start:stop]]
        after_space = [True, *(text.endswith(b" ") for text in texts)]
        place = next(
            i
            for i, text in enumerate(texts)
            if text.startswith(b" ") == join and len(text) > join and not after_space[i]
        )
        spelled = [texts[place][number : number + 1] for number in range(len(texts[place]))]
        pieces = [numbers[letter] for letter in (spelled[1:] if join else [b" ", *spelled])]
        place += start
        values = np.concatenate([tokens.values[:place], pieces, tokens.values[place + 1 :]]).astype(tokens.values.dtype)
        lengths = tokens.lengths.copy()
        lengths[row] += len(pieces) - 1
        first = lengths.astype(np.uint16)
        return {**columns, "tokens": Ragged(values, boundaries(lengths)), "first_segment_length": first}

    return change


@pytest.mark.parametrize("join", [True, False])
def test_white_space_that_is_not_in_the_document(plain: Dataset, tmp_path: Path, join: bool) -> None:
    made = changed(plain, tmp_path / "made", with_changed_spaces(plain, join))
    assert_refused(made, r"row \d+ has white space where document \d+ has none, or none where it has some: '.+'")


def other_ids(columns: Columns) -> None:
    """As of a tokenizer with other ids for its pieces."""
    tokens: Any = columns["tokens"]
    text = tokens.values > 8
    tokens.values[text] = 9 + (tokens.values[text] - 8) % 50


def other_documents(columns: Columns) -> None:
    documents: Any = columns["document"]
    documents[:] = np.roll(documents, 1)


def shuffled_words(columns: Columns) -> None:
    tokens: Any = columns["tokens"]
    inside = slice(tokens.offsets[3] + 1, tokens.offsets[4] - 1)
    tokens.values[inside] = tokens.values[inside][::-1]


@pytest.mark.parametrize("fault", [other_ids, other_documents, shuffled_words])
@pytest.mark.parametrize("split", SPLITS)
def test_text_that_is_not_in_the_document(
    plain: Dataset, tmp_path: Path, fault: Callable[[Columns], None], split: str
) -> None:
    made = changed(plain, tmp_path / "made", fault, split)
    assert_refused(made, rf"{split}-00000.arrow: row \d+ has text that is not in document \d+: '.+'")


def test_mask_labels_other_than_the_text(pairs: Dataset, tmp_path: Path) -> None:
    def change(columns: Columns) -> None:
        labels: Any = columns["mask_labels"]
        labels.values[0] = 9 + (labels.values[0] - 8) % 50

    assert_refused(changed(pairs, tmp_path / "made", change), r"row 0 has text that is not in document")


def test_spans_other_than_the_text(json_lines: Write, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"corrupt": {"kind": "masked_spans"}, "tokenizer": {"sentinels": 20}}
    sound = prepared(json_lines(TEXTS), tmp_path / "sound", "full_sentences", **sections)
    assert any("spans:" in line for line in verify(sound.path))

    def change(columns: Columns) -> None:
        targets: Any = columns["target_tokens"]
        targets.values[1] = targets.values[1] % 40 + 41

    assert_refused(changed(sound, tmp_path / "made", change), r"row 0 has text that is not in document")


@pytest.mark.parametrize(("label", "sentence"), [(1, "100.00% of the pairs"), (0, "0.00% of the pairs")])
def test_pair_labels_all_equal(pairs: Dataset, tmp_path: Path, label: int, sentence: str) -> None:
    """As if each document was one sentence."""

    def change(columns: Columns) -> Columns:
        return of_rows(columns, np.flatnonzero(np.asarray(columns["pair_labels"]) == label))

    assert_refused(changed(pairs, tmp_path / "made", change), f"{sentence} of train have label 1, not about half")


def test_pair_labels_contradicting_the_order_of_the_text(json_lines: Write, tmp_path: Path) -> None:
    sound = prepared(json_lines(TEXTS), tmp_path / "sound", "sentence_order")
    assert verify(sound.path)

    def change(columns: Columns) -> None:
        labels: Any = columns["pair_labels"]
        labels[:] = 1 - labels

    assert_refused(changed(sound, tmp_path / "made", change), r"row \d+ has a pair label that its text contradicts")


def truncated(columns: Columns) -> Columns:
    """A fifth of each row, as if sentences are longer than rows."""
    tokens: Any = columns["tokens"]
    rows = [tokens.values[first:last] for first, last in tokens.spans]
    rows = [np.append(row[: 2 + len(row) // 5], row[-1]) for row in rows]
    values = np.concatenate(rows)
    lengths = np.array([len(row) for row in rows])
    return {**columns, "tokens": Ragged(values, boundaries(lengths)), "first_segment_length": lengths.astype(np.uint16)}


@pytest.mark.parametrize("split", SPLITS)
def test_a_large_loss_of_text(plain: Dataset, tmp_path: Path, split: str) -> None:
    assert_refused(
        changed(plain, tmp_path / "made", truncated, split),
        rf"\d\d.\d% of the text of the {split} documents is in no row",
    )


def test_a_small_loss_of_text_is_a_warning(plain: Dataset, tmp_path: Path) -> None:
    def change(columns: Columns) -> Columns:
        rows = np.arange(len(np.asarray(columns["document"])))
        return of_rows(columns, rows[rows % 14 > 0])

    found = verify(changed(plain, tmp_path / "made", change).path)
    assert any(line.startswith("warning: 7") and "text of the train documents is in no row" in line for line in found)


def test_share_of_text_in_sentences_longer_than_a_row(plain: Dataset) -> None:
    tokenizer = ReferenceTokenizer.load(plain.tokenizer_path, plain.manifest.tokenizer.special)
    coverage = Coverage(tokenizer, read_documents(plain, tokenizer), "train")
    rows = plain.split("train")
    coverage.add(rows.take(np.arange(rows.rows)))
    assert share_in_long_sentences(coverage, 126) == 0.0
    assert share_in_long_sentences(coverage, 5) > 0.99
    assert 0.2 < share_in_long_sentences(coverage, 45) < 0.8


def test_rows_twice(plain: Dataset, tmp_path: Path) -> None:
    def change(columns: Columns) -> Columns:
        return of_rows(columns, np.repeat(np.arange(len(np.asarray(columns["document"]))), 2))

    assert_refused(
        changed(plain, tmp_path / "made", change), r"the rows of train have \d+.\d% more text than the manifest counts"
    )


def test_counts_of_sources(plain: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain.path, tmp_path / "copy"))
    manifest = read_manifest(copy)
    sources = ({**manifest.sources[0], "documents_kept": 41},)
    write_manifest(copy, manifest.model_copy(update={"sources": sources}))
    assert_refused(open_dataset(copy, verify=True), "documents kept of all sources are 41 in the manifest, but 40")


def test_a_document_in_both_splits(plain: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain.path, tmp_path / "copy"))
    lines = [json.loads(line) for line in (copy / DOCUMENTS).read_text("utf-8").splitlines()]
    opened = open_dataset(copy, verify=False)
    lines[0]["source"] = places(opened, "train", [0])[0]
    (copy / DOCUMENTS).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    write_manifest(copy, read_manifest(copy).model_copy(update={"documents_sha256": digest(copy / DOCUMENTS)}))
    assert_refused(open_dataset(copy, verify=True), "is both held out and trained on")


def test_one_document_gives_pairs_of_one_kind_and_a_warning(json_lines: Write, tmp_path: Path) -> None:
    made = prepared(json_lines(LONG[:1]), tmp_path / "made")
    assert any(line.startswith("warning: train has one document only") for line in verify(made.path))


def test_a_source_that_has_changed_is_not_compared(json_lines: Write, tmp_path: Path) -> None:
    path = json_lines(TEXTS)
    made = prepared(path, tmp_path / "made", "full_sentences")
    path.write_text(path.read_text().replace("Ba", "Be"))
    assert any("no source of the others could be read again" in line for line in verify(made.path))
