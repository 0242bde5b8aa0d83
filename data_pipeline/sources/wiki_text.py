"""MediaWiki's markup as a reader sees it: without options of images, categories, references, formulas and templates."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from data_pipeline.sources import wiki_names

LEFT_OUT = "\0"
"""In place of a template, so that brackets around nothing else are left out as well; XML cannot hold it."""
EMPTY_BRACKETS = re.compile(rf"\s*\([\s,;:]*{LEFT_OUT}[\s,;:{LEFT_OUT}]*\)")
EDGES = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n\s*\n\s*")
SWITCH = re.compile(r"__([^\W\d]+)__")
SIZE = re.compile(r"\d*(x\d+)?\s*px", re.IGNORECASE)
REDIRECT = re.compile(r"\s*#\s*([^\W\d_]+)\s*:?\s*\[\[")
HIDDEN_STYLE = re.compile(r"display\s*:\s*none")


MEDIA, FILES, CATEGORIES = "-2", "6", "14"
"""Numbers of namespaces."""


class Names(NamedTuple):
    """What the namespaces of a wiki are called, in lower case."""

    file: frozenset[str] = wiki_names.FILE_NAMES
    category: frozenset[str] = wiki_names.CATEGORY_NAMES
    media: frozenset[str] = frozenset({"media"})
    """Of links that play a file, and show the text of the link."""
    all: frozenset[str] = wiki_names.NAMESPACES
    """Of all but the one of the articles."""

    @classmethod
    def of(cls, known: Mapping[str, Iterable[str]]) -> "Names":
        """The usual names and those that a dump says, by the number of the namespace."""
        every = {name for names in known.values() for name in names}
        usual = cls()
        return cls(
            usual.file | {*known.get(FILES, ())},
            usual.category | {*known.get(CATEGORIES, ())},
            usual.media | {*known.get(MEDIA, ())},
            usual.all | every,
        )


def visible_text(markup: str, names: Names, parse: Callable[[str], Any]) -> str:
    """The text of a page.

    Args:
        parse: ``mwparserfromhell.parse``.
    """
    opened = markup.rfind("<!--")
    if opened >= 0 and "-->" not in markup[opened:]:
        markup = markup[:opened]
    text = Page(names, parse).shown(parse(markup).nodes)
    text = EMPTY_BRACKETS.sub("", text).replace(LEFT_OUT, "")
    return BLANK_LINES.sub("\n\n", EDGES.sub("", text)).strip()


def is_redirect(markup: str) -> bool:
    """Does the page only lead to another one? The word is another one in every language, mostly in capitals."""
    found = REDIRECT.match(markup)
    return found is not None and (found[1] == found[1].upper() or found[1].lower() == "redirect")


class Page:
    """Shows the nodes of mwparserfromhell, each by a method of its type."""

    def __init__(self, names: Names, parse: Callable[[str], Any]):
        self.names, self.parse = names, parse

    def shown(self, nodes: Iterable[Any]) -> str:
        return "".join(SHOW[type(node).__name__](self, node) for node in nodes)

    def _text(self, node: Any) -> str:
        return SWITCH.sub(self._switch, str(node))

    def _switch(self, found: re.Match[str]) -> str:
        return "" if found[1].upper().replace("_", " ") in wiki_names.SWITCHES else found[0]

    def _nothing(self, _: Any) -> str:
        return ""

    def _entity(self, node: Any) -> str:
        return node.normalize()

    def _heading(self, node: Any) -> str:
        return f"\n\n{self.shown(node.title.nodes)}\n\n"

    def _argument(self, node: Any) -> str:
        return self.shown(node.default.nodes) if node.default is not None else ""

    def _external_link(self, node: Any) -> str:
        if node.title is not None:
            return self.shown(node.title.nodes)
        return "" if node.brackets else str(node.url)

    def _link(self, node: Any) -> str:
        title = str(node.title).strip()
        space = title.partition(":")[0].strip().replace("_", " ").lower() if ":" in title else ""
        is_file = space in self.names.file or title.lower().endswith(wiki_names.MEDIA_SUFFIXES)
        if space and is_file and space not in self.names.media:
            return self._image(node.text.nodes if node.text is not None else [])
        if space in self.names.category or space in wiki_names.LANGUAGES:
            return ""
        if node.text is not None and node.text.nodes:
            return self.shown(node.text.nodes)
        return self.shown(node.title.nodes).strip().removeprefix(":")

    def _image(self, nodes: Iterable[Any]) -> str:
        """What is shown below an image; only one with a frame has a caption."""
        parts = _parameters(nodes)
        words = {_word(part).partition("=")[0].strip() for part in parts}
        return self._caption(parts) if wiki_names.FRAMED & words else ""

    def _caption(self, parts: list[list[Any]]) -> str:
        """The last parameter that is no option."""
        captions = [part for part in parts if not _is_option(_word(part))]
        return f"\n\n{''.join(map(self._part, captions[-1]))}\n\n" if captions else ""

    def _part(self, node: Any) -> str:
        return node if isinstance(node, str) else self.shown([node])

    def _tag(self, node: Any) -> str:
        name = str(node.tag).strip().lower()
        if name in wiki_names.INVISIBLE or _is_hidden(node):
            return ""
        if name in TAGS:
            return TAGS[name](self, node)
        content = self.shown(node.contents.nodes) if node.contents is not None else ""
        # A list item in wiki markup is a mark without contents.
        return f"\n\n{content}\n\n" if name in wiki_names.BLOCKS and content else content

    def _line_break(self, _: Any) -> str:
        return "\n"

    def _gallery(self, node: Any) -> str:
        """A file and what is shown below it on each line."""
        lines = (str(line).partition("|")[2] for line in str(node.contents or "").splitlines())
        return "".join(self._caption(_parameters(self.parse(line).nodes)) for line in lines)

    def _row(self, node: Any) -> str:
        return "\n" + (self.shown(node.contents.nodes) if node.contents is not None else "")

    def _cell(self, node: Any) -> str:
        content = self.shown(node.contents.nodes) if node.contents is not None else ""
        return f" {content.strip().removeprefix('+').strip()}\t"

    def _template(self, node: Any) -> str:
        name = str(node.name).strip().replace("_", " ")
        function, colon, argument = name.partition(":")
        if colon and function.lower() in wiki_names.SHOWN_PARAMETER:
            return argument
        name = name.lower()
        values = [each.value for each in node.params if not each.showkey]
        if name in ("convert", "cvt"):
            return self._measure(values)
        number = 1 if name.startswith("lang-") else wiki_names.SHOWN_PARAMETER.get(name)
        if number is None or len(values) < abs(number):
            return wiki_names.SHOWN_TEXT.get(name, LEFT_OUT)
        return self.shown(values[number if number < 0 else number - 1].nodes)

    def _measure(self, values: list[Any]) -> str:
        """The numbers and the unit of ``{{convert|5|to|6|km|mi}}``, which are shown before what they are in others."""
        found: list[str] = []
        for value in values:
            found.append(self.shown(value.nodes).strip())
            if not found[-1][:1].isdigit() and found[-1][:1] not in "-\u2212." and found[-1] not in wiki_names.RANGES:
                break
        return " ".join(found)


SHOW: dict[str, Callable[[Page, Any], str]] = {
    "Text": Page._text,
    "HTMLEntity": Page._entity,
    "Comment": Page._nothing,
    "Heading": Page._heading,
    "Argument": Page._argument,
    "ExternalLink": Page._external_link,
    "Wikilink": Page._link,
    "Tag": Page._tag,
    "Template": Page._template,
}
"""Type of a node -> what is shown of it."""
TAGS: dict[str, Callable[[Page, Any], str]] = {
    "br": Page._line_break,
    "hr": Page._line_break,
    "gallery": Page._gallery,
    "tr": Page._row,
    "td": Page._cell,
    "th": Page._cell,
}


def _parameters(nodes: Iterable[Any]) -> list[list[Any]]:
    """What stands between the bars of a link: nodes, or pieces of text."""
    parts: list[list[Any]] = [[]]
    for node in nodes:
        first, *others = str(node).split("|") if type(node).__name__ == "Text" else [node]
        parts[-1].append(first)
        parts += [[each] for each in others]
    return parts


def _word(part: list[Any]) -> str:
    """A parameter as an option is written; of several nodes the first."""
    return str(part[0]).strip().lower() if part and (len(part) == 1 or "=" in str(part[0])) else "|"


def _is_option(word: str) -> bool:
    name, equals, _ = word.partition("=")
    if equals:
        return name.strip() in wiki_names.VALUED
    return not word or word in wiki_names.FRAMED or word in wiki_names.OPTIONS or bool(SIZE.fullmatch(word))


def _is_hidden(node: Any) -> bool:
    styles = (str(each.value) for each in node.attributes if str(each.name).strip().lower() == "style")
    return any(HIDDEN_STYLE.search(style) for style in styles)
