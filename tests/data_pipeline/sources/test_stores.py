"""Files in stores are read like local ones."""

import gzip
import json
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import files, units
from tests.data_pipeline.sources.reading import LINES, config, documents


def test_files_in_a_store_are_read_like_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    for name in ("b", "a"):
        store.pipe(f"/corpus/{name}.jsonl", LINES.encode())
    store.pipe("/corpus/c.jsonl.gz", gzip.compress(LINES.encode()))
    for pattern in ("memory://corpus/*.jsonl*", "memory://corpus"):
        found = documents(config("json_lines", pattern))
        assert [place for _, place in found[::2]] == ["a.jsonl@0", "b.jsonl@0", "c.jsonl.gz@0"]
        assert {text for text, _ in found} == {"first", "second \u00e9"}
    with pytest.raises(CorpusError, match=r"memory://corpus/none\.jsonl: no such file"):
        units(config("json_lines", "memory://corpus/none.jsonl"))


class Bucket(AbstractFileSystem):
    """A store like those of S3 and Google: its files are not Python's own, and ``readline`` takes no limit."""

    protocol = "bucket"
    contents: ClassVar[dict[str, bytes]] = {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        if path.startswith("locked"):
            raise RuntimeError("no credentials\nfound")
        names = [name for name in self.contents if name.startswith(path.rstrip("/"))]
        found = [{"name": name, "size": len(self.contents[name]), "type": "file"} for name in names]
        return found if detail else names

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "BucketFile":
        return BucketFile(self, path, mode, block_size=1000)  # pyright: ignore[reportArgumentType]


class BucketFile(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        return Bucket.contents[self.path][start:end]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    monkeypatch.setattr(Bucket, "contents", {})
    return Bucket.contents


def test_files_of_a_bucket_are_read_in_ranges(bucket: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RANGE_BYTES", 500)
    texts = [f"text {number} " + "word " * (number % 40) for number in range(100)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    bucket |= {"corpus/a.jsonl": content, "corpus/b.jsonl.gz": gzip.compress(content)}
    assert len(units(config("json_lines", "bucket://corpus/a.jsonl"))) > 10
    assert [text for text, _ in documents(config("json_lines", "bucket://corpus/*"))] == [*texts, *texts]


def test_a_store_that_does_not_answer_is_reported(bucket: dict[str, bytes]) -> None:
    with pytest.raises(CorpusError, match=r"bucket://locked/a: the store .* \(RuntimeError: no credentials found\)"):
        units(config("json_lines", "bucket://locked/a"))
