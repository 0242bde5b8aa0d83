"""Checksums of the sources, and places of the documents."""

import hashlib
from pathlib import Path

import fsspec
import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.dataset.manifest import read_manifest
from sesame.data_pipeline.dataset.provenance import checksum, places
from sesame.data_pipeline.dataset.shards import open_dataset


def test_the_manifest_has_the_checksum_of_each_source(dataset: Path, corpus: Path) -> None:
    (source,) = read_manifest(dataset).sources
    assert source["sha256"] == hashlib.sha256(corpus.read_bytes()).hexdigest()


def test_the_checksum_of_a_unit_covers_all_its_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("text")
    names = tuple(map(str, paths))
    before = checksum(names)
    assert checksum(names) == before != checksum(names[:1])
    paths[1].write_text("Text")
    assert checksum(names) != before


def test_the_hash_of_an_object_store_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/corpus.txt", b"text")
    assert checksum(("memory://corpus.txt",)) == "no hash, 4 bytes"
    monkeypatch.setattr(type(store), "info", lambda *_: {"size": 4, "ETag": '"a1"'})
    assert checksum(("memory://corpus.txt",)) == 'ETag "a1", 4 bytes'


def test_a_missing_source_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone.txt: cannot be read \(No such file"):
        checksum((str(tmp_path / "gone.txt"),))


def test_places_of_documents_are_unique(dataset: Path) -> None:
    opened = open_dataset(dataset, verify=True)
    trained = opened.manifest.documents["kept for training"]
    train = places(opened, "train", range(trained))
    validation = places(opened, "validation", range(opened.manifest.documents["held out"]))
    assert len(set(train) | set(validation)) == len(train) + len(validation)
