"""The visible text of MediaWiki's markup: without image options, categories, references, formulas and templates."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from sesame.data_pipeline.sources import wiki_names

REMOVED = "\0"
"""Replaces a template, so that brackets around nothing else are removed too; XML cannot contain it."""
EMPTY_BRACKETS = re.compile(rf"\s*\([\s,;:]*{REMOVED}[\s,;:{REMOVED}]*\)")
EDGES = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n\s*\n\s*")
SWITCH = re.compile(r"__([^\W\d]+)__")
SIZE = re.compile(r"\d*(x\d+)?\s*px", re.IGNORECASE)
REDIRECT = re.compile(r"\s*#\s*([^\W\d_]+)\s*:?\s*\[\[")
HIDDEN_STYLE = re.compile(r"display\s*:\s*none")


MEDIA, FILES, CATEGORIES = "-2", "6", "14"
"""Numbers of namespaces."""


class Names(NamedTuple):
    """Names of the namespaces of a wiki, in lower case."""

    file: frozenset[str] = wiki_names.FILE_NAMES
    category: frozenset[str] = wiki_names.CATEGORY_NAMES
    media: frozenset[str] = frozenset({"media"})
    """Links to play a file, which show their text."""
    all: frozenset[str] = wiki_names.NAMESPACES
    """All but that of articles."""

    @classmethod
    def of(cls, known: Mapping[str, Iterable[str]]) -> "Names":
        """Return the default names and those of a dump.

        Args:
            known: names by the number of the namespace.
        """
        default = cls()
        return cls(
            default.file | {*known.get(FILES, ())},
            default.category | {*known.get(CATEGORIES, ())},
            default.media | {*known.get(MEDIA, ())},
            default.all | {name for names in known.values() for name in names},
        )


def visible_text(markup: str, names: Names, parse: Callable[[str], Any]) -> str:
    """Return the visible text of a page.

    Args:
        parse: ``mwparserfromhell.parse``.
    """
    opened = markup.rfind("<!--")
    if opened >= 0 and "-->" not in markup[opened:]:
        markup = markup[:opened]
    text = Page(names, parse).to_text(parse(markup).nodes)
    text = EMPTY_BRACKETS.sub("", text).replace(REMOVED, "")
    return BLANK_LINES.sub("\n\n", EDGES.sub("", text)).strip()


def is_redirect(markup: str) -> bool:
    """Whether the page only redirects to another one. Each language has its own word for it, mostly in capitals."""
    match = REDIRECT.match(markup)
    return match is not None and (match[1] == match[1].upper() or match[1].lower() == "redirect")


class Page:
    """Converts the nodes of mwparserfromhell to text, each by a method for its type."""

    def __init__(self, names: Names, parse: Callable[[str], Any]):
        self.names, self.parse = names, parse

    def to_text(self, nodes: Iterable[Any]) -> str:
        return "".join(NODES[type(node).__name__](self, node) for node in nodes)

    def _text(self, node: Any) -> str:
        return SWITCH.sub(self._switch, str(node))

    def _switch(self, match: re.Match[str]) -> str:
        return "" if match[1].upper().replace("_", " ") in wiki_names.SWITCHES else match[0]

    def _nothing(self, _: Any) -> str:
        return ""

    def _entity(self, node: Any) -> str:
        return node.normalize()

    def _heading(self, node: Any) -> str:
        return f"\n\n{self.to_text(node.title.nodes)}\n\n"

    def _argument(self, node: Any) -> str:
        return self.to_text(node.default.nodes) if node.default is not None else ""

    def _external_link(self, node: Any) -> str:
        if node.title is not None:
            return self.to_text(node.title.nodes)
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
            return self.to_text(node.text.nodes)
        return self.to_text(node.title.nodes).strip().removeprefix(":")

    def _image(self, nodes: Iterable[Any]) -> str:
        """The caption of an image, which is shown only with a frame."""
        parts = _parameters(nodes)
        words = {_word(part).partition("=")[0].strip() for part in parts}
        return self._caption(parts) if wiki_names.FRAMED & words else ""

    def _caption(self, parts: list[list[Any]]) -> str:
        """The last parameter that is not an option."""
        captions = [part for part in parts if not _is_option(_word(part))]
        return f"\n\n{''.join(map(self._part, captions[-1]))}\n\n" if captions else ""

    def _part(self, node: Any) -> str:
        return node if isinstance(node, str) else self.to_text([node])

    def _tag(self, node: Any) -> str:
        name = str(node.tag).strip().lower()
        if name in wiki_names.INVISIBLE or _is_hidden(node):
            return ""
        if name in TAGS:
            return TAGS[name](self, node)
        content = self.to_text(node.contents.nodes) if node.contents is not None else ""
        # A list item in wiki markup is a tag without contents.
        return f"\n\n{content}\n\n" if name in wiki_names.BLOCKS and content else content

    def _line_break(self, _: Any) -> str:
        return "\n"

    def _gallery(self, node: Any) -> str:
        """The captions of a gallery, which has a file and its caption on each line."""
        lines = (str(line).partition("|")[2] for line in str(node.contents or "").splitlines())
        return "".join(self._caption(_parameters(self.parse(line).nodes)) for line in lines)

    def _row(self, node: Any) -> str:
        return "\n" + (self.to_text(node.contents.nodes) if node.contents is not None else "")

    def _cell(self, node: Any) -> str:
        content = self.to_text(node.contents.nodes) if node.contents is not None else ""
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
            return wiki_names.SHOWN_TEXT.get(name, REMOVED)
        return self.to_text(values[number if number < 0 else number - 1].nodes)

    def _measure(self, values: list[Any]) -> str:
        """The numbers and the first unit of ``{{convert|5|to|6|km|mi}}``."""
        words: list[str] = []
        for value in values:
            word = self.to_text(value.nodes).strip()
            words.append(word)
            if not word[:1].isdigit() and word[:1] not in "-\u2212." and word not in wiki_names.RANGES:
                break
        return " ".join(words)


NODES: dict[str, Callable[[Page, Any], str]] = {
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
"""Type of a node -> method that returns its visible text."""
TAGS: dict[str, Callable[[Page, Any], str]] = {
    "br": Page._line_break,
    "hr": Page._line_break,
    "gallery": Page._gallery,
    "tr": Page._row,
    "td": Page._cell,
    "th": Page._cell,
}


def _parameters(nodes: Iterable[Any]) -> list[list[Any]]:
    """The parameters of a link between the bars: nodes, or pieces of text."""
    parts: list[list[Any]] = [[]]
    for node in nodes:
        first, *others = str(node).split("|") if type(node).__name__ == "Text" else [node]
        parts[-1].append(first)
        parts += [[each] for each in others]
    return parts


def _word(part: list[Any]) -> str:
    """The word of a parameter, to compare with options; that of its first node if there are several."""
    return str(part[0]).strip().lower() if part and (len(part) == 1 or "=" in str(part[0])) else "|"


def _is_option(word: str) -> bool:
    name, equals, _ = word.partition("=")
    if equals:
        return name.strip() in wiki_names.VALUED
    return not word or word in wiki_names.FRAMED or word in wiki_names.OPTIONS or bool(SIZE.fullmatch(word))


def _is_hidden(node: Any) -> bool:
    styles = (str(each.value) for each in node.attributes if str(each.name).strip().lower() == "style")
    return any(HIDDEN_STYLE.search(style) for style in styles)
