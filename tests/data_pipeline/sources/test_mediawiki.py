"""Dumps of MediaWiki: articles without markup, ranges, truncated and damaged dumps."""

import bz2
import random
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import files, mediawiki, units
from tests.data_pipeline.sources.test_sources import config, documents
from tests.data_pipeline.sources.test_streams import COMPRESS

WIKI = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo><sitename>Wiki</sitename></siteinfo>
  <page><title>Tree</title><ns>0</ns><id>1</id><revision><id>9</id><text>A '''tree''' is a [[plant|tall plant]].{{cite}}

== Kinds ==
Many<ref>see</ref>.</text></revision></page>
  <page><title>Talk:Tree</title><ns>1</ns><id>2</id><revision><id>8</id><text>Talk</text></revision></page>
  <page><title>Trees</title><ns>0</ns><id>3</id><redirect title="Tree"/>
    <revision><id>7</id><text>#REDIRECT</text></revision></page>
</mediawiki>"""


def test_mediawiki_articles_without_markup(tmp_path: Path) -> None:
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(WIKI.encode()))
    dropped: Counter[str] = Counter()
    ((text, place),) = documents(config("mediawiki", tmp_path / "wiki.xml.bz2"), dropped)
    assert text.startswith("A tree is a tall plant.\n\nKinds")
    assert place == "wiki.xml.bz2#Tree"
    assert dropped == {"not an article": 2}
    (tmp_path / "cut.xml").write_text(WIKI[:-200])
    with pytest.raises(CorpusError, match=r"cut.xml: breaks off after record 1"):
        documents(config("mediawiki", tmp_path / "cut.xml"))


def dump(pages: int) -> list[bytes]:
    """A dump in pieces: head, pages of different sizes of which every fifth is not an article, and tail."""
    draw = random.Random(1)
    made = [
        f"<page><title>T{number}</title><ns>{1 if number % 5 == 4 else 0}</ns><revision><text>Text {number} "
        f"&lt;page&gt; {chr(233) * draw.choice((0, 7, 300))}</text></revision></page>\n".encode()
        for number in range(pages)
    ]
    return [b"<mediawiki>\n<siteinfo/>\n", *made, b"</mediawiki>\n" + b"\n" * 200]


@pytest.mark.parametrize("streams", [0, 1, 3, 10_000])
def test_every_page_of_a_large_dump_is_read_in_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """Uncompressed, in one bz2 stream, in streams of three pieces, and in streams that end anywhere."""
    pieces = dump(200)
    whole = b"".join(pieces)
    path = tmp_path / ("wiki.xml.bz2" if streams else "wiki.xml")
    if streams == 10_000:
        draw = random.Random(2)
        cuts = sorted({0, len(whole), *(draw.randrange(len(whole)) for _ in range(300))})
        pieces = [whole[start:stop] for start, stop in pairwise(cuts)]
    groups = [b"".join(pieces[i : i + 3]) for i in range(0, len(pieces), 3)] if streams == 3 else pieces
    stored = {0: [whole], 1: [bz2.compress(whole)]}.get(streams, [*map(bz2.compress, groups), bz2.compress(b"")])
    path.write_bytes(b"".join(stored))
    source = config("mediawiki", path)
    for size, block in product((37, 100, 1000, 100_000), (1, 64)):
        monkeypatch.setattr(files, "RANGE_BYTES", size)
        monkeypatch.setattr(mediawiki, "COMPRESSED_RANGE_BYTES", size)
        monkeypatch.setattr(mediawiki, "BLOCK_BYTES", block)
        dropped: Counter[str] = Counter()
        assert len(units(source)) == -(-path.stat().st_size // size)
        found = [place for _, place in documents(source, dropped)]
        assert found == [f"{path.name}#T{number}" for number in range(200) if number % 5 != 4]
        assert dropped == {"not an article": 40}


def test_a_truncated_dump_is_reported_once_in_any_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "wiki.xml", b"".join(dump(20))
    for length in (len(whole) // 2, whole.index(b"</mediawiki>") - 1, whole.index(b"</mediawiki>") + 5):
        path.write_bytes(whole[:length])
        for size in (16, 100, 1000):
            monkeypatch.setattr(files, "RANGE_BYTES", size)
            dropped: Counter[str] = Counter()
            documents(config("mediawiki", path, damaged="count"), dropped)
            assert dropped["file breaks off"] == 1


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_compressed_dump_truncated_anywhere_stops_or_is_counted(tmp_path: Path, compression: str) -> None:
    path, stored = tmp_path / "wiki.xml", COMPRESS[compression](b"".join(dump(20)))
    for length in range(14, len(stored) - 1, 31):
        path.write_bytes(stored[:length])
        dropped: Counter[str] = Counter()
        documents(config("mediawiki", path, damaged="count"), dropped)
        assert dropped["file breaks off"] == 1
        with pytest.raises(CorpusError, match=r"wiki.xml: breaks off after record \d+ .*source.damaged = 'count'"):
            documents(config("mediawiki", path))


def test_a_damaged_dump_is_reported_and_a_page_too_large_is_counted(tmp_path: Path) -> None:
    pieces = dump(20)
    path = tmp_path / "wiki.xml.bz2"
    stored = [bz2.compress(piece) for piece in pieces]
    for damaged in (
        [*stored[:5], stored[5][:-9]],
        stored[:-1],
        [*stored[:5], b"no stream", *stored[5:]],
        [*stored[:5], stored[5][:20] + b"?" + stored[5][21:], *stored[6:]],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(CorpusError, match=r"wiki.xml.bz2: breaks off after record"):
            documents(config("mediawiki", path))
    large = b"<page><title>L</title><ns>0</ns><revision><text>" + b"word " * 10_000 + b"</text></revision></page>"
    path.write_bytes(bz2.compress(b"".join([*pieces[:4], large, *pieces[4:]])))
    dropped: Counter[str] = Counter()
    found = documents(config("mediawiki", path, maximum_document_megabytes=0.02), dropped)
    assert len(found) == 16 and dropped == {"not an article": 4, "too large": 1}
