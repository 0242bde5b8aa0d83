"""The embedded corpus: the English documentation that every Python installation carries.

Docstrings and text files of the standard library and of the installed packages, read as text and never imported, in
the order of their paths, so that one installation always gives the same documents.
"""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.document import Document

PACKAGE_BYTES = 3_000_000
"""Source read of each package, so that a few large ones do not drown the others nor take all the time."""

LEFT_OUT = frozenset({"tests", "test", "testing", "idlelib", "turtledemo", "lib2to3", "site-packages", "__pycache__", "_vendor"})
"""Folders without documentation, or with that of other packages once more."""

TEXTS = frozenset({".txt", ".rst", ".md"})
CODE_LINE = re.compile(r"^\s*(>>>|\.\.\.|\$ |\.\. |:\w|[-=~^`+*#|]{3,}|@|\|)|[{}\\]|[=(),_.]{2,}|https?:")
MARKUP = re.compile(r"``?|:\w+:(?=`)|\*\*")


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


def documents(files: tuple[str, ...]) -> Iterator[Document]:
    """One document for each module with docstrings and for each text file."""
    for file in files:
        path = Path(file)
        try:
            source = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        parts = [source] if path.suffix in TEXTS else _docstrings(source)
        text = "\n\n".join(prose for part in parts if (prose := _prose(part)))
        if text:
            yield Document(text, "/".join(path.parts[-4:]))


def _files(entry: Path) -> tuple[str, ...]:
    if entry.name in LEFT_OUT or entry.name.startswith((".", "sesame", "__editable__")):
        return ()
    candidates = [entry] if entry.is_file() else sorted(entry.rglob("*"))
    files, size = [], 0
    for path in candidates:
        if path.suffix not in TEXTS | {".py"} or LEFT_OUT.intersection(path.parts[len(entry.parts) :]):
            continue
        size += path.stat().st_size
        if size > PACKAGE_BYTES:
            break
        files.append(str(path))
    return tuple(files)


def _docstrings(source: str) -> Iterator[str]:
    if '"""' not in source and "'''" not in source:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def _prose(text: str) -> str:
    """The paragraphs of ``text`` that read like sentences; code, tables and field lists are left out."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        if not lines or sum(bool(CODE_LINE.search(line)) for line in lines) * 3 > len(lines):
            continue
        flat = MARKUP.sub("", " ".join(" ".join(lines).split()))
        words = flat.split()
        if len(words) >= 6 and sum(word.isalpha() for word in words) >= 0.6 * len(words):
            kept.append(flat)
    return "\n\n".join(kept)
