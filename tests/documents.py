"""The documents of the repository as the tests read them: blocks, commands, links and names."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sesame import configs
from sesame.data_pipeline.config import CorpusConfig
from sesame.evaluation.config import EvaluationConfig
from sesame.pretrain.config import RunConfig

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in (REPOSITORY / "docs").glob("*.md")),
)
"""Documents whose commands a user types."""
MEASURED = "benchmarks/RESULTS.md"
"""Its commands are those of the day on which they were measured."""
ASSIGNMENT = re.compile(r"[A-Z_]+=")
STAGES: dict[str, tuple[str, type[configs.Section]]] = {
    "prepare": ("corpus", CorpusConfig),
    "pretrain": ("run", RunConfig),
    "evaluate": ("suite", EvaluationConfig),
}
"""Of a command of ``sesame``: the parameter with its file, and what the file holds."""
LANGUAGES = ("sh", "text", "toml", "indented")
"""Of a block: commands, output in which a line after ``$`` is a command, configuration, and what is drawn."""


class Block(NamedTuple):
    """A fenced or indented code block."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command as it is written, and the output that is shown below it."""

    page: str
    line: int
    text: str
    output: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self._split[: self._assignments])

    @property
    def words(self) -> list[str]:
        return self._split[self._assignments :]

    @property
    def _split(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def _assignments(self) -> int:
        return next(number for number, word in enumerate(self._split) if not ASSIGNMENT.match(word))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    language, start, lines = "", 0, list[str]()
    for number, line in enumerate([*read(page).split("\n"), ""], 1):
        fence = line.startswith("```")
        if language and (fence or (language == "indented" and line.strip() and not line.startswith("    "))):
            yield Block(page, start, language, "\n".join(lines))
            language = ""
            if fence:
                continue
        if not language and (fence or line.startswith("    ")):
            language, start = (line[3:].strip() or "text", number + 1) if fence else ("indented", number)
            lines = [] if fence else [line[4:]]
        elif language:
            lines.append(line[4:] if language == "indented" else line)


def commands(page: str) -> Iterator[Command]:
    """Commands of a page in their order, with the lines that a backslash continues put together."""
    for block in blocks(page):
        if block.language == "sh":
            for offset, text in _joined(block.text):
                yield Command(page, block.line + offset, text)
        elif block.language == "text":
            for part in re.finditer(r"^\$ (.+)\n((?:(?!\$ ).*\n?)*)", block.text, re.MULTILINE):
                yield Command(page, block.line + block.text.count("\n", 0, part.start()), part[1], part[2])


def _joined(text: str) -> Iterator[tuple[int, str]]:
    whole, start = "", 0
    for number, line in enumerate(text.split("\n")):
        start = start if whole else number
        whole += line.strip().removesuffix("\\")
        if not line.endswith("\\"):
            if whole:
                yield start, whole
            whole = ""


def code_spans(page: str) -> Iterator[str]:
    """Texts between backticks outside of fenced blocks."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL))


def links(page: str) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link that leads to no other site; an empty path is the page itself."""
    for target in re.findall(r"\]\(([^)]+)\)", read(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: str) -> set[str]:
    """Names under which the headings of a page can be linked."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
