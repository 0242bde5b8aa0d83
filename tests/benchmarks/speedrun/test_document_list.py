"""The list of documents: which are chosen, and that their text is the list's."""

import json
from pathlib import Path

import pytest

from benchmarks.speedrun.document_list import Name, make_list, read_list, write_text_of
from sesame.configs.errors import CorpusError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Pages of ten words each, and books of three chapters of four words."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    pages = [{"id": number, "text": f"page{number} " + "word " * 9} for number in range(40)]
    books = [
        {"source": f"book {number}", "part": part, "text": f"book{number} chapter{part} of words"}
        for number in range(20)
        for part in range(3)
    ]
    for name, rows in (("pages", pages), ("books", books)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_each_file_has_half_of_the_words_in_an_order_of_hashes(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    assert make_list(corpus, path, words=120) == 120
    chosen = read_list(path)
    assert chosen.words == 120 and [entry.name.key for entry in chosen.entries] == ["source"] * 5 + ["id"] * 6
    pages = sorted((Name("id", str(number)) for number in range(40)), key=lambda name: name.order)
    assert [entry.name for entry in chosen.entries if entry.name.key == "id"] == pages[:6]
    (corpus / "pages.jsonl").write_text("".join(reversed((corpus / "pages.jsonl").read_text().splitlines(True))))
    make_list(corpus, tmp_path / "again.tsv", words=120)
    assert read_list(tmp_path / "again.tsv") == chosen, "the order of the lines does not matter"


def test_text_of_the_evaluation_is_left_out(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    make_list(corpus, path, 10**6, lambda text: "chapter2" in text and "book7 " in text)
    names = [entry.name.identifier for entry in read_list(path).entries]
    assert len(names) == 59 and "book 7" not in names


def test_the_text_has_the_listed_documents_in_order(corpus: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "list.tsv", tmp_path / "text.jsonl"
    make_list(corpus, path, words=120)
    write_text_of(read_list(path), corpus, output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert sum(len(row["text"].split()) for row in rows) == 120
    assert len(rows) == 5 * 3 + 6, "each chapter is a document"
    names = list(dict.fromkeys(row.get("source") or row["id"] for row in rows))
    assert names == [entry.name.identifier for entry in read_list(path).entries]


def test_a_missing_and_a_changed_document_are_errors(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    make_list(corpus, path, words=120)
    pages = corpus / "pages.jsonl"
    lines = pages.read_text().splitlines(True)
    number = next(entry.name.identifier for entry in read_list(path).entries if entry.name.key == "id")
    pages.write_text("".join(line.replace(f'"page{number} ', f'"side{number} ') for line in lines))
    with pytest.raises(CorpusError, match=f"the document with id '{number}' has another text than the list's; give"):
        write_text_of(read_list(path), corpus, tmp_path / "text.jsonl")
    pages.write_text("".join(line for line in lines if f'"page{number} ' not in line))
    with pytest.raises(CorpusError, match=f"lacks 1 of 11 listed documents, the first with id '{number}'; give"):
        write_text_of(read_list(path), corpus, tmp_path / "text.jsonl")
    assert not (tmp_path / "text.jsonl").exists()


@pytest.mark.parametrize("line", ["id\t1\tten\tabc", "id 1 10 abc", ""])
def test_a_line_that_is_no_document_is_an_error(line: str, tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text(f"# head\n{line}\n")
    with pytest.raises(CorpusError, match=r"list.tsv(:2: is not 'KEY|: lists no documents)"):
        read_list(tmp_path / "list.tsv")


def test_the_shipped_list_has_ten_million_words() -> None:
    from benchmarks.speedrun.options import LIST

    chosen = read_list(LIST)
    assert 9_990_000 < chosen.words <= 10_000_000
    assert len({entry.name for entry in chosen.entries}) == len(chosen.entries) > 1000
