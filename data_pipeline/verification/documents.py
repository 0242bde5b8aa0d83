"""The documents of a dataset, for ``sesame verify``: how many, which numbers stand for one, and the text of some.

Validation documents lie in the dataset. Those that are trained on are read again from their files, where these still
are what they were.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import configs
from configs import Section
from configs.errors import ConfigError, DatasetError
from data_pipeline.cleaning.config import CleanConfig
from data_pipeline.dataset.manifest import digest
from data_pipeline.dataset.shards import Dataset
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.python_documentation import packages
from data_pipeline.verification.original_texts import cleaned, document_of, names_of, original
from data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from data_pipeline.verification.row_texts import DocumentText

AGAIN = "prepare the dataset again"
COMPARED = {"train": 100, "validation": 400}
"""Documents whose rows are compared with their text, evenly chosen."""
MOST_CHARACTERS = 20_000_000
"""Of those documents together."""
MOST_HASHED = 1 << 30
"""Bytes of source files that are read to see whether they are what they were."""
RANGE = re.compile(r"\[\d+:\d+\]$")
"""What the name of a unit has behind its file."""


class Documents(NamedTuple):
    """Both splits, by their names."""

    finding: str
    identities: dict[str, np.ndarray]
    """uint64 [documents]: equal where two numbers stand for one document."""
    texts: dict[str, dict[int, DocumentText]]
    """Some documents by their numbers."""
    trained_characters: int
    """Of all documents that are trained on, as the manifest says."""
    visible_share: float | None
    """Characters of the tokenizer's form of the text that are not white space, for each character of a document."""
    unread: str
    """Why no text that is trained on was compared; empty where some was."""


class _Read(NamedTuple):
    marks: np.ndarray
    texts: dict[int, str]
    spaces: dict[int, bool]
    """Whether white space of a text is beyond doubt."""
    gaps: bool = False
    """Paragraphs may be left out."""
    characters: int = 0


def read_documents(dataset: Dataset, tokenizer: ReferenceTokenizer) -> Documents:
    """Read what there is of documents, and compare their counts with the manifest's.

    Raises:
        DatasetError: they differ, or one document has several numbers or is in both splits.
    """
    held_out, trained = _held_out(dataset), _trained(dataset)
    _check_counts(dataset, len(trained.marks), len(held_out.marks))
    if len(both := np.intersect1d(trained.marks, held_out.marks)):
        place = next(place for place in _train_places(dataset) if _mark(document_of(place)) == both[0])
        raise DatasetError(f"{dataset.path}: {document_of(place)} is both held out and trained on; {AGAIN}")
    read = {"train": trained, "validation": held_out}
    texts = {
        name: {n: DocumentText(text, tokenizer, each.spaces[n], each.gaps) for n, text in each.texts.items()}
        for name, each in read.items()
    }
    size = sum(map(len, held_out.texts.values()))
    kept = sum(row["characters_kept"] for row in dataset.manifest.sources)
    counts = dataset.manifest.documents
    return Documents(
        f"documents: {counts.get('read', 0):,} read, {len(trained.marks):,} trained on, {len(held_out.marks):,} held "
        "out, each with its place and on one side only",
        {name: each.marks for name, each in read.items()},
        texts,
        kept - held_out.characters,
        sum(each.visible for each in texts["validation"].values()) / size if size else None,
        "" if trained.texts else " (no source of the others could be read again)",
    )


def _check_counts(dataset: Dataset, trained: int, held_out: int) -> None:
    manifest = dataset.manifest
    counts, kept = manifest.documents, sum(row["documents_kept"] for row in manifest.sources)
    for what, stated, found in (
        ("documents read", counts.get("read", 0), sum(manifest.fates.values())),
        ("documents held out", counts.get("held out", 0), held_out),
        ("documents kept for training", counts.get("kept for training", 0), trained),
        ("documents kept of all sources", kept, trained + held_out),
    ):
        if stated != found:
            raise DatasetError(
                f"{dataset.path}: {what} are {stated} in the manifest, but {found} by their sum or file; {AGAIN}"
            )


def _held_out(dataset: Dataset) -> _Read:
    wanted = _even(dataset.manifest.documents.get("held out", 0), COMPARED["validation"])
    texts: dict[int, str] = {}
    same: list[int] = []
    characters = 0

    def places() -> Iterator[str]:
        nonlocal characters
        room = MOST_CHARACTERS
        try:
            with dataset.documents_path.open("rb") as file:
                for number, line in enumerate(file):
                    document = json.loads(line)
                    text = document["text"]
                    same.append(_mark(text))
                    characters += len(text)
                    if number in wanted and len(text) <= room:
                        texts[number] = text
                        room -= len(text)
                    yield document["source"]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{dataset.documents_path}: row {len(same)} cannot be read ({error}); {AGAIN}") from None

    marks = _marks(dataset, places())
    # Of equal texts the place of the first stands for all.
    _, first, copies = np.unique(np.array(same, np.uint64), return_index=True, return_inverse=True)
    return _Read(marks[first[copies.ravel()]], texts, dict.fromkeys(texts, True), characters=characters)


def _trained(dataset: Dataset) -> _Read:
    (rules,) = _sections(dataset, "clean", CleanConfig)
    wanted = _even(dataset.manifest.documents.get("kept for training", 0), COMPARED["train"])
    chosen: dict[int, str] = {}

    def places() -> Iterator[str]:
        for number, place in enumerate(_train_places(dataset)):
            if number in wanted:
                chosen[number] = place
            yield place

    marks = _marks(dataset, places())
    texts, spaces, room = {}, {}, MOST_CHARACTERS
    sources = _sources(dataset, set().union(*map(names_of, chosen.values())))
    for number, place in chosen.items():
        found = original(place, sources)
        if found is not None and len(found) <= room:
            texts[number], spaces[number] = cleaned(found, rules)
            room -= len(found)
    gaps = bool(rules.get("drop_repeated_paragraphs") or rules.get("drop_repeated_lines"))
    return _Read(marks, texts, spaces, gaps)


def _train_places(dataset: Dataset) -> Iterator[str]:
    try:
        with pa.memory_map(str(dataset.places_path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for number in range(reader.num_record_batches):
                yield from reader.get_batch(number).column("source").to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DatasetError(f"{dataset.places_path}: cannot be read as an Arrow file ({error}); {AGAIN}") from None


def _marks(dataset: Dataset, places: Iterator[str]) -> np.ndarray:
    """uint64 of each document, by its place."""
    both = ((_mark(document_of(place)), _mark(place)) for place in places)
    pairs = np.fromiter(both, np.dtype((np.uint64, 2)))
    marks, named = pairs.reshape(-1, 2).T
    documents = len(np.unique(marks))
    if documents < len(np.unique(named)):
        raise DatasetError(
            f"{dataset.path}: {len(marks)} documents are pieces of {documents}, each counted for itself; {AGAIN}"
        )
    return marks.copy()


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _even(count: int, most: int) -> set[int]:
    return set(np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()) if count else set()


def _sections(dataset: Dataset, name: str, kind: type[Section]) -> list[dict[str, Any]]:
    """The tables of a recipe under ``name``, checked: a manifest with the right checksum may still hold anything."""
    found = dataset.manifest.recipe.get(name)
    sections = found if isinstance(found, list | tuple) and name == "source" else [found]
    checked = []
    for values in sections:
        if not isinstance(values, dict):
            raise DatasetError(f"{dataset.path}: recipe.{name} in the manifest is no table; {AGAIN}")
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        try:
            checked.append({**values, **configs.dump(configs.parse(known, kind, f"recipe.{name}"))})
        except ConfigError as error:
            raise DatasetError(f"{dataset.path}: {error} in the manifest; {AGAIN}") from None
    return checked


def _sources(dataset: Dataset, names: set[str]) -> dict[str, Any]:
    """The configuration of the source of each file or package of these names that still is what was read."""
    configured = _sections(dataset, "source", SourceConfig)
    installed = dict(packages()) if any(each["kind"] == "python_documentation" for each in configured) else {}
    found: dict[str, Any] = {}
    left = MOST_HASHED
    for row in dataset.manifest.sources:
        name = RANGE.sub("", row["name"])
        if name in found or name not in names:
            continue
        left -= row["bytes"]
        files = installed.get(name, (name,))
        if not 0 <= row["source"] < len(configured):
            raise DatasetError(f"{dataset.path}: {row['name']} is of a source that is not in the recipe; {AGAIN}")
        if left >= 0 and _digest(files) == row["sha256"]:
            source = configured[row["source"]]
            found[name] = {**source, "files": files} if name in installed else source
    return found


def _digest(files: Sequence[str]) -> str | None:
    """SHA-256 of a file, or over those of several, as the manifest has it; None where one cannot be read."""
    try:
        each = [digest(Path(file)) for file in files]
    except OSError:
        return None
    return each[0] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()
