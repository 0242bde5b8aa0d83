"""The visible text of the newest revision of pages of MediaWiki."""

from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import mwparserfromhell
import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.wiki_text import Names, is_redirect, visible_text
from tests.data_pipeline.sources.test_sources import config, documents


def plain_text(markup: str, names: Names | None = None) -> str:
    return " ".join(visible_text(markup, names or Names(), mwparserfromhell.parse).split())


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        # Images: the caption is visible if there is a frame, options never.
        ("a [[File:x y.jpg|thumb|upright=1.2|alt=An alt|link=|120px|A ''small'' [[boat|ship]]]] b", "a A small ship b"),
        ("a [[Image:x.png|x200px|left|Some words]] b", "a b"),
        ("a [[Datei:x.svg|mini|hochkant=0.7|rechts|Ein Hafen]] b", "a Ein Hafen b"),
        ("a [[\u0424\u0430\u0439\u043b:x.jpg|\u043c\u0438\u043d\u0438|\u0441\u043f\u0440\u0430\u0432\u0430]] b", "a b"),
        ("a [[Unheard:x.JPG|thumb|frame|100x120px|One|Two]] b", "a Two b"),
        ("a [[:File:x.jpg]] and [[Media:x.ogg|listen]] b", "a File:x.jpg and listen b"),
        ("<gallery mode=packed>\nFile:a.jpg|One [[b|c]]\nFile:b.jpg\nFile:c.jpg|alt=x|Two\n</gallery>", "One c Two"),
        # Links.
        ("[[Category:Ports|x]] [[Kategorie:H\u00e4fen]] a [[:Category:Ports]]", "a Category:Ports"),
        ("a [[de:Hafen]] [[zh-min-nan:X]] [[FR:Port]] b [[:de:Hafen]] [[Re:Zero]]", "a b de:Hafen Re:Zero"),
        ("[[Pier]]s, [[Pier|piers]], [[Pier (sea)|]]", "Piers, piers, Pier (sea)"),
        ("[http://x a ''site''] [http://y] http://z", "a site http://z"),
        # References, formulas, comments, nowiki.
        ("a<ref>b</ref><ref name=c>d {{e}}</ref><ref name=f /> g <references><ref>h</ref></references>", "a g"),
        ("a <math>x^2</math> b <chem>H2O</chem> <score>c d</score> c<sub>2</sub>", "a b c2"),
        ("a<!-- b [[c]] -->d <!-- e", "ad"),
        ("<nowiki>[[a]] ''b'' {{c}}</nowiki> <code>d[0]</code> <pre>'''e'''</pre>", "[[a]] ''b'' {{c}} d[0] '''e'''"),
        ("a&nbsp;b &amp; &lt;c&gt; &#8211;", "a b & <c> \u2013"),
        # Templates: most are removed, with brackets around nothing else.
        ("a {{Infobox|name=b|image={{c}}}} d ({{IPA|e}}; {{f}}) g (h, {{i}})", "a d g (h, )"),
        ("{{lang|de|Stra\u00dfe}} {{Lang-fr|''rue''}} {{nowrap|10 km}}", "Stra\u00dfe rue 10 km"),
        ("{{convert|5|to|6|km|mi}} {{cvt|7|ft}}", "5 to 6 km 7 ft"),
        ("{{{a|b}}} {{{c}}} {{formatnum:1234}} 1{{ndash}}2", "b 1234 1\u20132"),
        # Tables, lists, headings, switches.
        ("{| class=wikitable\n|+ Boats\n! Year !! colspan=2 | Count\n|-\n| 1 || 2\n|}", "Boats Year Count 1 2"),
        ("== Kinds ==\n* a\n** b\n# c\n; d : e\n:f", "Kinds a b c d e f"),
        ("__NOTOC__ a __init__ __notoc__ <div style='display: none'>b</div> c", "a __init__ c"),
        ("<p>a</p><br/>b<hr>c <span class=x>d</span> '''''e'''''", "a b c d e"),
    ],
)
def test_markup_becomes_visible_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_headings_and_captions_are_paragraphs() -> None:
    text = visible_text("a\n== B ==\nc\n[[File:d.jpg|thumb|e]]\nf", Names(), mwparserfromhell.parse)
    assert text == "a\n\nB\n\nc\n\ne\n\nf"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("#REDIRECT [[A]]", True),
        ("\n# redirect: [[A]]", True),
        ("#WEITERLEITUNG [[A]]", True),
        ("#\u91cd\u5b9a\u5411 [[A]]", True),
        ("# [[A]]", False),
        ("# Redirected\n[[A]]", False),
        ("REDIRECT [[A]]", False),
    ],
)
def test_redirects_are_recognized_by_their_word(markup: str, expected: bool) -> None:
    assert is_redirect(markup) is expected


HEAD = """<mediawiki xml:lang="xx"><siteinfo><namespaces>
<namespace key="-2" case="first-letter">Medjo</namespace><namespace key="0" case="first-letter" />
<namespace key="6" case="first-letter">Dosjero</namespace>
<namespace key="14" case="first-letter">Klaso &amp;c</namespace>
<namespace key="100" case="first-letter">Pordo</namespace></namespaces></siteinfo>
"""


def revision(text: str, timestamp: str = "2020-01-01T00:00:00Z", more: str = "", attributes: str = "") -> str:
    when = f"<timestamp>{timestamp}</timestamp>" if timestamp else ""
    return f"<revision><id>1</id>{when}{more}<text{attributes}>{escape(text)}</text></revision>"


def page(title: str, *revisions: str, space: str = "<ns>0</ns>") -> str:
    return f"<page><title>{escape(title)}</title>{space}<id>1</id>{''.join(revisions)}</page>\n"


def read(path: Path, *pages: str, damaged: str = "stop") -> tuple[list[tuple[str, str]], Counter[str]]:
    path.write_text(HEAD + "".join(pages) + "</mediawiki>\n", encoding="utf-8")
    dropped: Counter[str] = Counter()
    return documents(config("mediawiki", path, damaged=damaged), dropped), dropped


def test_the_newest_revision_is_the_one_with_the_latest_time(tmp_path: Path) -> None:
    times = ["2019-05-01T00:00:00Z", "2021-01-31T23:59:59Z", "2021-01-04T00:00:00Z", ""]
    history = [revision(f"of {time}", time) for time in times]
    gone = revision("", "2022-01-01T00:00:00Z", attributes=' deleted="deleted"')
    found, _ = read(tmp_path / "a.xml", page("A", *history, gone), page("B", *history[::-1]), page("C", history[3]))
    assert [text for text, _ in found] == [f"of {times[1]}", f"of {times[1]}", "of"]


def test_other_pages_than_articles_are_dropped(tmp_path: Path) -> None:
    model = "<model>Scribunto</model>"
    found, dropped = read(
        tmp_path / "a.xml",
        page("Only code", revision("return {}", more=model)),
        page("Old redirect", revision("#REDIRECT [[A]]")),
        page("Talk:A", revision("Talk"), space=""),
        page("Pordo:A", revision("Portal"), space=""),
        page("Nothing left", revision("", attributes=' deleted="deleted"')),
        page("Alien: the film", revision("An article"), space=""),
    )
    assert found == [("An article", "a.xml#Alien: the film")]
    assert dropped == {"not an article": 5}


def test_names_of_namespaces_are_read_from_the_dump(tmp_path: Path) -> None:
    markup = "a [[Dosjero:x|thumb|Caption]] [[klaso &c:Y]] [[Medjo:z.ogg|heard]] b"
    found, _ = read(tmp_path / "a.xml", page("A", revision(markup)))
    assert " ".join(found[0][0].split()) == "a Caption heard b"


def test_one_damaged_page_drops_one_page(tmp_path: Path) -> None:
    pages = [page("A", revision("First")), "<page><title>B</title><ns>0</wrong></page>\n", page("C", revision("Third"))]
    found, dropped = read(tmp_path / "a.xml", *pages, damaged="count")
    assert [text for text, _ in found] == ["First", "Third"]
    assert dropped == {"not XML": 1}
    with pytest.raises(CorpusError, match=r"a.xml: the page 'B' is not XML .*source.damaged = 'count'"):
        read(tmp_path / "a.xml", *pages)
