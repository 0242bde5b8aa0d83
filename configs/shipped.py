"""The configuration files that come with Sesame, found by name from any folder."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path

from sesame.configs.errors import ConfigError

FOLDER = Path(__file__).resolve().parent
KINDS = ("corpus", "pretrain", "evaluation")
"""Folders of the files of ``prepare``, ``pretrain`` and ``evaluate``."""

SENTENCE_END = re.compile(r"(?<!et al)\. ")


def find(text: str, kind: str | None = None) -> Path:
    """Return the file of a path, or of a shipped configuration by its name: "demo", "pretrain/demo", "demo.toml".

    Args:
        kind: folder in which a name without one is looked for.

    Returns:
        The path as given if such a file exists or no shipped one has the name. A folder of the name is no such file.

    Raises:
        ConfigError: several shipped files have the name.
    """
    given = Path(text)
    if (given.exists() and not given.is_dir()) or given.is_absolute() or ".." in given.parts:
        return given
    named = given.with_name(f"{given.name.removesuffix('.toml')}.toml") if given.name else given
    if named.parts[:1] == (FOLDER.name,):
        named = named.relative_to(FOLDER.name)
    folders = [FOLDER, *(FOLDER / each for each in ([kind] if kind else KINDS))]
    found = [folder / named for folder in folders if (folder / named).is_file()]
    if len(found) > 1:
        names = ", ".join(path.relative_to(FOLDER).with_suffix("").as_posix() for path in found)
        raise ConfigError(f"{text}: several shipped files have this name; give one of {names}")
    return found[0] if found else given


finders = {kind: partial(find, kind=kind) for kind in KINDS}
"""Kind of file -> :func:`find` for it, as a parser of an argument."""


def descriptions() -> Iterator[tuple[str, str]]:
    """Yield the name and the first sentence of every shipped file, by kind."""
    for kind in KINDS:
        for path in sorted((FOLDER / kind).glob("*.toml")):
            lines = path.read_text(encoding="utf-8").splitlines()
            # A command is indented, and ends the description.
            comment = takewhile(lambda line: re.match("# \\S", line), lines)
            sentence = SENTENCE_END.split(" ".join(line[2:] for line in comment))[0]
            yield f"{kind}/{path.stem}", sentence.rstrip(".:")
