"""Provenance of a dataset: file and place of every document, and checksums of the input files."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

import pyarrow as pa
from fsspec.core import url_to_fs

from sesame.configs.errors import CorpusError, DatasetError
from sesame.configs.storage import digest, digest_of, named_errors
from sesame.data_pipeline.cleaning.parts import Part
from sesame.data_pipeline.cleaning.selection import Choice, Outcome
from sesame.data_pipeline.dataset.shards import REMEDY, Dataset
from sesame.data_pipeline.sources.streams import printable

DOCUMENTS_AT_ONCE = 65536
"""Documents of one record batch; adjacent places are similar and compress to a few bytes each."""

TAGS = ("ETag", "etag", "md5Hash", "content_md5", "checksum")
"""Names of the hash of a file in object stores; the first one that exists is used."""


def write_places(path: Path, parts: Sequence[Part], choices: Sequence[Choice]) -> None:
    """Write the place of every train document, in order, in batches."""
    places = _places(parts, choices)
    schema = pa.schema([("source", pa.large_string())])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        named_errors(path),
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, schema, options=options) as writer,
    ):
        while batch := list(islice(places, DOCUMENTS_AT_ONCE)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.large_string())], schema=schema))


def places(dataset: Dataset, split: str, numbers: Iterable[int]) -> list[str]:
    """Return the file and place of documents, by their indices in the split.

    Raises:
        DatasetError: there is no document of that index, or the file cannot be read.
    """
    return [_validation(dataset, each) if split == "validation" else _train(dataset, each) for each in numbers]


def checksum(paths: tuple[str, ...]) -> str:
    """Return the SHA-256 of a local file, or of the hashes of several; in an object store the hash that it reports.

    Raises:
        CorpusError: a file cannot be read.
    """
    try:
        hashes = [_stored(path) if "://" in path else digest(Path(path)) for path in paths]
    except OSError as error:
        name = printable(str(error.filename or paths[0]))
        raise CorpusError(
            f"{name}: cannot be read ({error.strerror or error}); restore it, then run the same command again"
        ) from None
    return hashes[0] if len(hashes) == 1 else digest_of("\n".join(hashes).encode())


def code_version() -> str:
    """Return the version of Sesame and a hash of the code of ``data_pipeline``; other code may give other bytes."""
    try:
        known = version("sesame")
    except PackageNotFoundError:
        known = "unknown"
    code = digest_of(b"\0".join(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))))
    return f"{known}+{code[:12]}"


def _places(parts: Sequence[Part], choices: Sequence[Choice]) -> Iterator[str]:
    for part, choice in zip(parts, choices, strict=True):
        yield from part.sources(choice.keep(Outcome.TRAIN) & part.begins)


def _stored(path: str) -> str:
    store, inside = url_to_fs(path)
    known = store.info(inside)
    tags = [f"{name} {known[name]}" for name in TAGS if known.get(name)]
    return f"{tags[0] if tags else 'no hash'}, {known['size']} bytes"


def _train(dataset: Dataset, number: int) -> str:
    with _opened(dataset.places_path) as reader:
        batch, row = divmod(number, DOCUMENTS_AT_ONCE)
        rows = reader.get_batch(batch).column("source") if batch < reader.num_record_batches else []
        if row >= len(rows):
            raise DatasetError(f"{dataset.places_path}: has no document {number}; {REMEDY}")
        return rows[row].as_py()


def _validation(dataset: Dataset, number: int) -> str:
    try:
        with dataset.documents_path.open(encoding="utf-8") as file:
            return json.loads(next(islice(file, number, None)))["source"]
    except (OSError, ValueError, KeyError, StopIteration):
        raise DatasetError(f"{dataset.documents_path}: has no document {number}; {REMEDY}") from None


def _opened(path: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"{path}: cannot be read as an Arrow file ({error}); {REMEDY}") from None
