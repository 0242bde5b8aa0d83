"""The embedded corpus: the English documentation that every Python installation carries.

Docstrings and text files of the standard library and of the installed packages, read as text and never imported, in
the order of their paths, so that one installation always gives the same documents.
"""

import ast
import os
import re
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from data_pipeline.sources.document import Document

PACKAGE_BYTES = 3_000_000
"""Source read of each package, so that a few large ones do not drown the others nor take all the time."""

NO_FOLDERS = "tests test testing idlelib turtledemo lib2to3 site-packages dist-packages __pycache__ _vendor vendored"
NO_PROSE = "pydoc_data encodings locale licenses"
LEFT_OUT = frozenset(f"{NO_FOLDERS} {NO_PROSE}".split())
"""Folders without documentation, or with that of other packages once more."""

TEXTS = frozenset({".txt", ".rst", ".md"})
KINDS = TEXTS | {".py"}
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

STARTS = r"(?:(?:async def|def|class)\b|@)"
DEFINITION = re.compile(rf"^(?={STARTS})", re.MULTILINE)
CLASS = re.compile(r"class [^\n]*:[ \t]*\n(?:[ \t]*\n)*(?P<indent> +)\S")
NOT_INDENTED = re.compile(r"^[^\s#]", re.MULTILINE)
DOCSTRING = re.compile(r":(?<=[\w)\]]:)[ \t]*+(?:#[^\n]*+)?+(?:\n[ \t]*+(?:#[^\n]*+)?+)*+\(*[rRuU]?[\"']")
"""How the docstring of a class or function begins; some other strings begin like that, too."""
TRIPLE_QUOTES = ('"""', "'''")

UNDERLINE = re.compile(r"^\s*([=\-~^\"'`#*+:.])\1{2,}\s*$")
CODE = re.compile(r"^\s*(>>>|\.\.\.( |$)|\.\. |\$ |:\w+:|@\w|\||#!)|[{}\\<>|]|\w\(|[=_*/]{2,}|==|://|\w=\w|\[\w+\]")
NAMES = r"[*\w., `'\"]{1,40}"
FIELD = re.compile(rf"^\s*(:\w+[^:]*:|{NAMES} : .*|{NAMES}( \([^)]*\))? ?:|[-*+\u2022]|\(?\d+[.)])(\s|$)")
"""The head of an entry: a Sphinx field, a named argument, a list item. What follows it is a paragraph of its own."""

MARKUP = re.compile(r"``?|:[\w:]+:(?=`)|\*\*?|~(?=\w)|`_+")
WORD = re.compile(r"^[\"'(\[]*[A-Za-z]+(['\u2019-][A-Za-z]+)*[\"')\],.;:!?]*$")
COMMON_WORDS = "a an the of to in is are and or for with that this be by if it as on from not can will when"
COMMON = frozenset(COMMON_WORDS.split())
"""A paragraph of English prose has at least two of them."""


def packages() -> list[tuple[str, tuple[str, ...]]]:
    """(name, files in order) of the standard library and of each installed package."""
    library, site = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    found = []
    for root in (library, site):
        for entry in sorted(root.iterdir(), key=lambda path: path.name):
            files = _files(entry)
            if files:
                found.append((f"{root.name}/{entry.name}", files))
    return found


def documents(name: str, files: tuple[str, ...]) -> Iterator[Document]:
    """One document for each module with docstrings and for each text file."""
    package = name.rpartition("/")[2]
    for file in files:
        path = Path(file)
        try:
            source = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        parts = [source] if path.suffix in TEXTS else _docstrings(source)
        text = "\n\n".join(paragraph for part in parts for paragraph in prose(part))
        if text:
            inside = path.parts[len(path.parts) - path.parts[::-1].index(package) :]
            yield Document(text, "/".join((name, *inside)))


def prose(text: str) -> Iterator[str]:
    """The paragraphs of ``text`` that read like English sentences, without markup; code and tables are left out."""
    for block in _blocks(text):
        if sum(bool(CODE.search(line)) for line in block) * 3 > len(block):
            continue
        flat = MARKUP.sub("", " ".join(" ".join(block).split()))
        words = flat.split()
        if len(words) < 6:
            continue
        english, common = (sum(each) for each in zip(*map(_judged, words), strict=True))
        if english >= 0.85 * len(words) and common >= 2:
            yield flat


@lru_cache(maxsize=1 << 16)
def _judged(word: str) -> tuple[bool, bool]:
    """(Is it written like an English word? Is it a common one?)"""
    return WORD.match(word) is not None, word.lower() in COMMON


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that belong together: parted by blank lines, by underlined headings and by the heads of entries."""
    block: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        marked = stripped and not stripped[0].isalpha()
        # Most lines are plain words, for which the patterns need not be tried.
        head = FIELD.match(line) if marked or ":" in line else None
        underline = UNDERLINE.match(line) if marked else None
        if underline:
            block = block[:-1]
        if head or underline or not stripped:
            if block:
                yield block
            block = []
            line = line[head.end() :] if head else ""
            stripped = line.strip()
        if stripped:
            block.append(line)
    if block:
        yield block


def _files(entry: Path) -> tuple[str, ...]:
    """The files of a package in the order of their paths, up to PACKAGE_BYTES of them."""
    if entry.name in LEFT_OUT or entry.name.startswith((".", "sesame", "__editable__")):
        return ()
    files, size = [], 0
    for path in [str(entry)] if entry.is_file() else _walk(entry):
        if os.path.splitext(path)[1] in KINDS:
            size += os.path.getsize(path)
            if size > PACKAGE_BYTES:
                break
            files.append(path)
    return tuple(files)


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        yield from (os.path.join(place, name) for name in sorted(files))


def _docstrings(source: str) -> Iterator[str]:
    if not any(quotes in source for quotes in TRIPLE_QUOTES):
        return
    for tree in _parsed(source):
        for node in _definitions(tree):
            text = ast.get_docstring(node, clean=False)
            if text:
                first, _, rest = text.expandtabs().partition("\n")
                yield f"{first.strip()}\n{textwrap.dedent(rest)}"


def _parsed(source: str) -> list[ast.Module]:
    """Syntax trees with every docstring of ``source``, in order; none where it is not Python.

    Most of a file is code without docstrings, and parsing it takes most of the time of reading it. So the definitions
    are parsed one by one, and what holds no docstring is left out; where that fails, the file is parsed as it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parse in (_parsed_by_piece, lambda source: [ast.parse(source)]):
            try:
                return parse(source)
            except (SyntaxError, ValueError, RecursionError):
                continue
    return []


def _parsed_by_piece(source: str) -> list[ast.Module]:
    trees = []
    for before, piece in _pieces(source):
        end = _end_of_docstrings(piece)
        if end is None:
            continue
        try:
            trees.append(ast.parse(before + piece[:end]))
        except SyntaxError:
            trees.append(ast.parse(before + piece))
    return trees


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    """(what must stand before it, piece): the source parted before its definitions and before those of its classes.

    A line without indentation that begins with ``def``, ``class`` or ``@`` begins a statement, unless it lies in a
    string. In that case the piece before it ends within a string, which is a SyntaxError. The same holds for lines of
    the indentation of a class.
    """
    first, *others = DEFINITION.split(source)
    yield "", first
    for piece in others:
        head = CLASS.match(piece)
        if head is None:
            yield "", piece
            continue
        after = NOT_INDENTED.search(piece, head.end())
        end = after.start() if after else len(piece)
        begin, *members = re.split(rf"^(?={head['indent']}{STARTS})", piece[:end], flags=re.MULTILINE)
        yield "", begin
        yield from (("if True:\n", member) for member in members)
        # A string that comes first would be taken for the docstring of a module.
        yield "pass\n", piece[end:]


def _end_of_docstrings(piece: str) -> int | None:
    """Where the last line ends in which a docstring can begin or end; None without one."""
    last = max(piece.rfind(quotes) for quotes in TRIPLE_QUOTES)
    for match in DOCSTRING.finditer(piece):
        last = max(last, match.end() - 1)
    if last < 0:
        return None
    return piece.find("\n", last) + 1 or len(piece)


def _definitions(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Modules, classes and functions in the order of the source; expressions hold none and are not looked into."""
    if isinstance(node, DEFINITIONS):
        yield node
    for child in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.expr) else []:
        yield from _definitions(child)
