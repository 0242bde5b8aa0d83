"""The documents of a dataset: their number, their identities and the text of some.

The text of validation documents is in the dataset. Train documents are read again from their source files, if these did
not change.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.verification import PREPARE_AGAIN
from sesame.data_pipeline.verification.original_texts import document_of, normalize, possible_names, read_original
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.row_texts import DocumentText
from sesame.data_pipeline.verification.source_files import recipe_sections, unchanged_sources

COMPARED = {"train": 100, "validation": 400}
"""Maximum of documents whose rows are compared with their text, evenly spaced."""
MAXIMUM_CHARACTERS = 20_000_000
"""Of these documents together."""


class Documents(NamedTuple):
    """The documents of both splits, by the name of the split."""

    finding: str
    identities: dict[str, np.ndarray]
    """uint64 [documents]: equal if two numbers are of one document."""
    texts: dict[str, dict[int, DocumentText]]
    """Number -> text of some documents."""
    train_characters: int
    """Of all train documents, by the manifest."""
    visible_share: float | None
    """Characters of the text as the tokenizer normalizes it, except white space, for each character of a document."""
    unread: str
    """Why no text of train documents is compared; empty if some is."""


class _SplitDocuments(NamedTuple):
    identities: np.ndarray
    texts: dict[int, str]
    exact_spaces: dict[int, bool]
    """Whether the white space of a text can be compared."""
    gaps: bool = False
    """Paragraphs may have been dropped."""
    characters: int = 0


def read_documents(dataset: Dataset, tokenizer: ReferenceTokenizer) -> Documents:
    """Read the documents, and compare their counts with the manifest.

    Raises:
        DatasetError: counts differ, or one document has several numbers or is in both splits.
    """
    validation, train = _validation_documents(dataset), _train_documents(dataset)
    _check_counts(dataset, len(train.identities), len(validation.identities))
    if len(both := np.intersect1d(train.identities, validation.identities)):
        documents = map(document_of, _train_places(dataset))
        document = next(document for document in documents if _hash(document) == both[0])
        raise DatasetError(f"{dataset.path}: {document} is both held out and trained on; {PREPARE_AGAIN}")
    splits = {"train": train, "validation": validation}
    texts = {
        name: {n: DocumentText(text, tokenizer, split.exact_spaces[n], split.gaps) for n, text in split.texts.items()}
        for name, split in splits.items()
    }
    size = sum(map(len, validation.texts.values()))
    kept = sum(row["characters_kept"] for row in dataset.manifest.sources)
    counts = dataset.manifest.documents
    return Documents(
        f"documents: {counts.get('read', 0):,} read, {len(train.identities):,} trained on, "
        f"{len(validation.identities):,} held out, each with its position and in one split only",
        {name: split.identities for name, split in splits.items()},
        texts,
        kept - validation.characters,
        sum(text.visible for text in texts["validation"].values()) / size if size else None,
        "" if train.texts else " (no source of the others could be read again)",
    )


def _check_counts(dataset: Dataset, train: int, validation: int) -> None:
    manifest = dataset.manifest
    counts, kept = manifest.documents, sum(row["documents_kept"] for row in manifest.sources)
    for what, stated, found in (
        ("documents read", counts.get("read", 0), sum(manifest.documents_by_outcome.values())),
        ("documents held out", counts.get("held out", 0), validation),
        ("documents kept for training", counts.get("kept for training", 0), train),
        ("documents kept of all sources", kept, train + validation),
    ):
        if stated != found:
            raise DatasetError(
                f"{dataset.path}: {what} are {stated} in the manifest, but {found} by their sum or file; "
                f"{PREPARE_AGAIN}"
            )


def _validation_documents(dataset: Dataset) -> _SplitDocuments:
    compared = _evenly_spaced(dataset.manifest.documents.get("held out", 0), COMPARED["validation"])
    texts: dict[int, str] = {}
    text_hashes: list[int] = []
    characters = 0

    def places() -> Iterator[str]:
        nonlocal characters
        remaining = MAXIMUM_CHARACTERS
        try:
            with dataset.documents_path.open("rb") as file:
                for number, line in enumerate(file):
                    document = json.loads(line)
                    text = document["text"]
                    text_hashes.append(_hash(text))
                    characters += len(text)
                    if number in compared and len(text) <= remaining:
                        texts[number] = text
                        remaining -= len(text)
                    yield document["source"]
        except (ValueError, KeyError, TypeError) as error:
            reason = f"row {len(text_hashes)} cannot be read ({error}); {PREPARE_AGAIN}"
            raise DatasetError(f"{dataset.documents_path}: {reason}") from None

    identities = _identities(dataset, places())
    # Equal texts have the identity of the first.
    _, first, copies = np.unique(np.array(text_hashes, np.uint64), return_index=True, return_inverse=True)
    exact_spaces = dict.fromkeys(texts, True)
    return _SplitDocuments(identities[first[copies.ravel()]], texts, exact_spaces, characters=characters)


def _train_documents(dataset: Dataset) -> _SplitDocuments:
    (rules,) = recipe_sections(dataset, "clean", CleanConfig)
    compared = _evenly_spaced(dataset.manifest.documents.get("kept for training", 0), COMPARED["train"])
    places_compared: dict[int, str] = {}

    def places() -> Iterator[str]:
        for number, place in enumerate(_train_places(dataset)):
            if number in compared:
                places_compared[number] = place
            yield place

    identities = _identities(dataset, places())
    texts, exact_spaces, remaining = {}, {}, MAXIMUM_CHARACTERS
    sources = unchanged_sources(dataset, set().union(*map(possible_names, places_compared.values())))
    for number, place in places_compared.items():
        text = read_original(place, sources)
        if text is not None and len(text) <= remaining:
            texts[number], exact_spaces[number] = normalize(text, rules)
            remaining -= len(text)
    gaps = bool(rules.get("drop_repeated_paragraphs") or rules.get("drop_repeated_lines"))
    return _SplitDocuments(identities, texts, exact_spaces, gaps)


def _train_places(dataset: Dataset) -> Iterator[str]:
    try:
        with pa.memory_map(str(dataset.places_path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for number in range(reader.num_record_batches):
                yield from reader.get_batch(number).column("source").to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DatasetError(
            f"{dataset.places_path}: cannot be read as an Arrow file ({error}); {PREPARE_AGAIN}"
        ) from None


def _identities(dataset: Dataset, places: Iterator[str]) -> np.ndarray:
    """uint64 [documents]: the hash of the place of each document."""
    pairs = ((_hash(document_of(place)), _hash(place)) for place in places)
    identities, place_hashes = np.fromiter(pairs, np.dtype((np.uint64, 2))).reshape(-1, 2).T
    documents = len(np.unique(identities))
    if documents < len(np.unique(place_hashes)):
        raise DatasetError(
            f"{dataset.path}: {len(identities)} documents are pieces of {documents}, but counted as documents; "
            f"{PREPARE_AGAIN}"
        )
    return identities.copy()


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _evenly_spaced(count: int, most: int) -> set[int]:
    """Up to ``most`` numbers of [0, count)."""
    return set(np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()) if count else set()
