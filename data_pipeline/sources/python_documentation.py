"""The English documentation of a Python installation: docstrings and text files of all its packages.

Files are read as text and never imported, in the order of their paths, so that an installation always gives the same
documents.
"""

import ast
import os
import re
import sysconfig
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.sources.unit import Unit

PACKAGE_BYTES = 3_000_000
"""Limit of each package, so that a few large ones do not dominate the text and the time."""

NO_FOLDERS = "tests test testing idlelib turtledemo lib2to3 site-packages dist-packages __pycache__ _vendor vendored"
NO_PROSE = "pydoc_data encodings locale licenses"
SKIPPED_FOLDERS = frozenset(f"{NO_FOLDERS} {NO_PROSE}".split())
"""Folders without documentation, or with copies of other packages."""

TEXTS = frozenset({".txt", ".rst", ".md"})
KINDS = TEXTS | {".py"}
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

STARTS = r"(?:(?:async def|def|class)\b|@)"
DEFINITION = re.compile(rf"^(?={STARTS})", re.MULTILINE)
CLASS = re.compile(r"class [^\n]*:[ \t]*\n(?:[ \t]*\n)*(?P<indent> +)\S")
NOT_INDENTED = re.compile(r"^[^\s#]", re.MULTILINE)
DOCSTRING = re.compile(r":(?<=[\w)\]]:)[ \t]*+(?:#[^\n]*+)?+(?:\n[ \t]*+(?:#[^\n]*+)?+)*+\(*[rRuU]?[\"']")
"""Start of the docstring of a class or function; matches some other strings too."""
TRIPLE_QUOTES = ('"""', "'''")

UNDERLINE = re.compile(r"^\s*([=\-~^\"'`#*+:.])\1{2,}\s*$")
CODE = re.compile(r"^\s*(>>>|\.\.\.( |$)|\.\. |\$ |:\w+:|@\w|\||#!)|[{}\\<>|]|\w\(|[=_*/]{2,}|==|://|\w=\w|\[\w+\]")
NAMES = r"[*\w., `'\"]{1,40}"
FIELD = re.compile(rf"^\s*(:\w+[^:]*:|{NAMES} : .*|{NAMES}( \([^)]*\))? ?:|[-*+\u2022]|\(?\d+[.)])(\s|$)")
"""Head of an entry: a Sphinx field, a named argument, a list item. The text after it is a separate paragraph."""

MARKUP = re.compile(r"``?|:[\w:]+:(?=`)|\*\*?|~(?=\w)|`_+")
WORD = re.compile(r"^[\"'(\[]*[A-Za-z]+(['\u2019-][A-Za-z]+)*[\"')\],.;:!?]*$")
COMMON_WORDS = "a an the of to in is are and or for with that this be by if it as on from not can will when"
COMMON = frozenset(COMMON_WORDS.split())
"""A paragraph of English prose has at least two of them."""


def documentation_units(config: SourceConfig) -> list[Unit]:
    """Return one unit for each package."""
    return [Unit(config.kind, name, files, sum(map(os.path.getsize, files))) for name, files in packages()]


def read_documentation(unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the documents of a package."""
    yield from documents(unit.name, unit.paths)


def packages() -> list[tuple[str, tuple[str, ...]]]:
    """Return (name, files in order) of each package and module, installed or of the standard library."""
    library, site = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    result = []
    for root in (library, site):
        for entry in sorted(root.iterdir(), key=lambda path: path.name):
            files = _files(entry)
            if files:
                result.append((f"{root.name}/{entry.name}", files))
    return result


def documents(name: str, files: tuple[str, ...]) -> Iterator[Document]:
    """Yield one document for each module with docstrings and for each text file."""
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
    """Yield the paragraphs of ``text`` that are English sentences, without markup; code and tables are skipped."""
    for block in _blocks(text):
        if sum(bool(CODE.search(line)) for line in block) * 3 > len(block):
            continue
        flat = MARKUP.sub("", " ".join(" ".join(block).split()))
        words = flat.split()
        if len(words) < 6:
            continue
        english, common = (sum(each) for each in zip(*map(_is_english, words), strict=True))
        if english >= 0.85 * len(words) and common >= 2:
            yield flat


@lru_cache(maxsize=1 << 16)
def _is_english(word: str) -> tuple[bool, bool]:
    """(whether it is spelled like an English word, whether it is a common one)."""
    return WORD.match(word) is not None, word.lower() in COMMON


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines of each paragraph; blank lines, underlined headings and heads of entries separate them."""
    block: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        marked = stripped and not stripped[0].isalpha()
        # Most lines are plain words, which need no match of the patterns.
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
    """Return the files of a package in the order of their paths, up to PACKAGE_BYTES."""
    if entry.name in SKIPPED_FOLDERS or entry.name.startswith((".", "sesame", "__editable__")):
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
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        yield from (os.path.join(parent, name) for name in sorted(files))


def _docstrings(source: str) -> Iterator[str]:
    if not any(quotes in source for quotes in TRIPLE_QUOTES):
        return
    for tree in _parse(source):
        for node in _definitions(tree):
            text = ast.get_docstring(node, clean=False)
            if text:
                first, _, rest = text.expandtabs().partition("\n")
                yield f"{first.strip()}\n{textwrap.dedent(rest)}"


def _parse(source: str) -> list[ast.Module]:
    """Return syntax trees with every docstring of ``source``, in order; none if it is not Python.

    Most of a file is code without docstrings, and parsing it takes most of the time. So each definition is parsed by
    itself, without the lines after its last docstring. If that fails, the whole file is parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parse in (_parse_by_piece, lambda source: [ast.parse(source)]):
            try:
                return parse(source)
            except (SyntaxError, ValueError, RecursionError):
                continue
    return []


def _parse_by_piece(source: str) -> list[ast.Module]:
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
    """Split the source before its definitions and before those of its classes -> (prefix, piece).

    The prefix makes the piece a valid module. A line without indentation that begins with ``def``, ``class`` or ``@``
    begins a statement, unless it is in a string. In that case the piece before it ends within a string, which is a
    SyntaxError. The same is true of lines with the indentation of a class.
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
        # Without it, a string at the beginning would be the docstring of a module.
        yield "pass\n", piece[end:]


def _end_of_docstrings(piece: str) -> int | None:
    """End of the last line in which a docstring can begin or end; None if there is none."""
    last = max(piece.rfind(quotes) for quotes in TRIPLE_QUOTES)
    for match in DOCSTRING.finditer(piece):
        last = max(last, match.end() - 1)
    if last < 0:
        return None
    return piece.find("\n", last) + 1 or len(piece)


def _definitions(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield modules, classes and functions in the order of the source; expressions contain none."""
    if isinstance(node, DEFINITIONS):
        yield node
    for child in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.expr) else []:
        yield from _definitions(child)
