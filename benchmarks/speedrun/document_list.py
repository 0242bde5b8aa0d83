"""The fixed text of the speedrun: a list of documents of a public corpus with the digest of each.

A list is a text file. Lines that begin with ``#`` are comments; every other line is a document:

    KEY <tab> IDENTIFIER <tab> WORDS <tab> DIGEST

KEY is the field of the JSON lines that identifies documents, such as ``id`` (a page of Wikipedia) or ``source`` (a
book, whose chapters are lines of their own and are joined in their order). Words are separated by white space. The
digest is the first 16 hexadecimal digits of the SHA-256 of the document's texts, joined by line feeds.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs.errors import CorpusError
from sesame.configs.storage import atomic_file, digest, write_text
from sesame.data_pipeline.sources.streams import open_text

KEYS = ("id", "source")
"""Fields that identify a document, the preferred one first."""
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".jsonl.xz")
DIGITS = 16
WORDS = 10_000_000
"""Of the fixed text, at most."""


class Name(NamedTuple):
    """What identifies a document in a corpus."""

    key: str
    identifier: str

    @property
    def order(self) -> str:
        """Documents are chosen in this order, which does not depend on their text."""
        return hashlib.sha256(f"{self.key}\t{self.identifier}".encode()).hexdigest()


class Entry(NamedTuple):
    """A line of a list."""

    name: Name
    words: int
    digest: str


class DocumentList(NamedTuple):
    """A list of documents, in its order."""

    entries: tuple[Entry, ...]
    sha256: str
    """Of the file."""

    @property
    def words(self) -> int:
        return sum(entry.words for entry in self.entries)


def read_list(path: Path) -> DocumentList:
    """Read a list.

    Raises:
        CorpusError: it is missing, empty or a line is not of the format above.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such list of documents; give another --list") from None
    entries = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 4 or not cells[2].isdecimal():
            raise CorpusError(f"{path}:{number}: is not 'KEY, IDENTIFIER, WORDS, DIGEST' separated by tabs; correct it")
        entries.append(Entry(Name(cells[0], cells[1]), int(cells[2]), cells[3]))
    if not entries:
        raise CorpusError(f"{path}: lists no documents; make it again with `python -m benchmarks.speedrun list`")
    return DocumentList(tuple(entries), digest(path))


def write_text_of(chosen: DocumentList, folder: Path, output: Path) -> None:
    """Write the documents of a list as JSON lines, in the order of the list; a book's chapters are documents.

    Args:
        folder: JSON lines of a corpus that has them, compressed or not.

    Raises:
        CorpusError: a document is missing, or has another text than the list's.
    """
    wanted = {entry.name for entry in chosen.entries}
    found: dict[Name, list[str]] = {}
    for _, name, text in documents(folder):
        if name in wanted:
            found.setdefault(name, []).append(text)
    missing = [entry.name for entry in chosen.entries if entry.name not in found]
    if missing:
        raise CorpusError(
            f"{folder}: lacks {len(missing)} of {len(wanted)} listed documents, the first with {missing[0].key} "
            f"{missing[0].identifier!r}; give the corpus that the list was made of, or make a list of your own with "
            "`python -m benchmarks.speedrun list`"
        )
    for entry in chosen.entries:
        if _digest(found[entry.name]) != entry.digest:
            raise CorpusError(
                f"{folder}: the document with {entry.name.key} {entry.name.identifier!r} has another text than the "
                "list's; give the edition of the corpus that the list was made of, or make a list of your own with "
                "`python -m benchmarks.speedrun list`"
            )
    with atomic_file(output) as file:
        for entry in chosen.entries:
            for text in found[entry.name]:
                line = {"text": text, entry.name.key: entry.name.identifier}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def make_list(folder: Path, output: Path, words: int = WORDS, is_left_out: Callable[[str], bool] | None = None) -> int:
    """Write a list of about ``words`` words of a corpus, the same share of them from each file.

    In each file, documents are taken in the order of the hash of their identifier if they still fit.

    Args:
        is_left_out: whether a text is in no list, because it holds text of the evaluation.

    Returns:
        The words of the list.
    """
    files: dict[str, dict[Name, list[str]]] = {}
    for file, name, text in documents(folder):
        files.setdefault(file, {}).setdefault(name, []).append(text)
    share, lines, total = words // max(1, len(files)), [], 0
    for named in files.values():
        left = share
        for name in sorted(named, key=lambda name: name.order):
            count = sum(len(text.split()) for text in named[name])
            if count > left or (is_left_out and any(map(is_left_out, named[name]))):
                continue
            left -= count
            lines.append(f"{name.key}\t{name.identifier}\t{count}\t{_digest(named[name])}")
        total += share - left
    head = f"# {total} words in {len(lines)} documents; benchmarks/speedrun/document_list.py has the format\n"
    write_text(output, head + "\n".join(lines) + "\n")
    return total


def documents(folder: Path) -> Iterator[tuple[str, Name, str]]:
    """Yield (file, name, text) of every line of the JSON lines in a folder, in order of the file names.

    Raises:
        CorpusError: there are no such files, or a line is not a document with a name.
    """
    files = sorted(path for path in folder.rglob("*") if path.name.endswith(SUFFIXES)) if folder.is_dir() else []
    if not files:
        raise CorpusError(f"{folder}: has no JSON lines (.jsonl, compressed or not); give the folder of a corpus")
    for path in files:
        with open_text(str(path)) as content:
            for number, line in enumerate(content, 1):
                yield str(path.relative_to(folder)), *_document(line, f"{path}:{number}")


def _document(line: bytes, place: str) -> tuple[Name, str]:
    try:
        values: Any = json.loads(line)
        key = next(key for key in KEYS if key in values)
        return Name(key, str(values[key])), str(values["text"])
    except (ValueError, TypeError, KeyError, StopIteration):
        raise CorpusError(f"{place}: is not a JSON object with 'text' and {' or '.join(KEYS)}; correct it") from None


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:DIGITS]
