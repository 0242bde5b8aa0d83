"""Which files a path, a folder or a glob names, here or in a store that fsspec knows.

A name that is there is taken as it is, whatever signs it holds: a folder may be called ``data[v1]``. Folders are
searched through links, but no folder twice, so that a link to a folder above it does no harm.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from configs.errors import CorpusError
from data_pipeline.sources.files import File
from data_pipeline.sources.streams import shown, unanswered

ANY_DEPTH = "**"
HIDDEN = (".", "_")
"""How the names begin of what a folder holds beside its text: .git, _SUCCESS."""
HIDDEN_FROM_GLOBS = (".",)
SPECIAL = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def matching(pattern: str, setting: str = "source.paths") -> list[File]:
    """The files of a path, a folder (all below it but hidden ones) or a glob, sorted; ``setting`` is where it stands.

    Raises:
        CorpusError: nothing matches, a link leads nowhere, a folder or file cannot be read, or the store needs a
            package that is not installed.
    """
    try:
        return _remote(pattern, setting) if "://" in pattern else _local(pattern, setting)
    except OSError as error:
        name = shown(os.fsdecode(error.filename or pattern))
        raise CorpusError(f"{name}: cannot be read ({error.strerror or error}); correct it, or {setting}") from None


def _local(pattern: str, setting: str) -> list[File]:
    if os.path.isdir(pattern):
        names = [name for folder in _folders(str(Path(pattern)), HIDDEN) for name in _files(folder)]
        if not names:
            raise CorpusError(f"{shown(pattern)}: the folder holds no file but hidden ones; correct {setting}")
    elif os.path.lexists(pattern):
        _refuse_special(pattern, setting)
        names = [pattern]
    elif glob.has_magic(pattern):
        names = [name for name in _unique(sorted(_glob(_literal(pattern)))) if not os.path.isdir(name)]
    else:
        names = []
    if not names:
        _refuse_nothing(pattern, setting)
    for name in names:
        _refuse_lost_link(name, setting)
    return [_file(name) for name in sorted(names) if os.path.isfile(name)] or _refuse_nothing(pattern, setting)


def _file(name: str) -> File:
    return File(shown(name), os.path.abspath(name), os.path.getsize(name))


def _refuse_nothing(pattern: str, setting: str) -> NoReturn:
    what = "matches no file" if glob.has_magic(pattern) else "no such file"
    raise CorpusError(f"{shown(pattern)}: {what}; correct {setting}")


def _refuse_special(name: str, setting: str) -> None:
    _refuse_lost_link(name, setting)
    mode = os.stat(name).st_mode
    for is_special, what in SPECIAL.items():
        if is_special(mode):
            raise CorpusError(
                f"{shown(name)}: is {what}, not a file; write what it gives to a file, or correct {setting}"
            )


def _refuse_lost_link(name: str, setting: str) -> None:
    if os.path.islink(name) and not os.path.exists(name):
        target = shown(os.readlink(name))
        raise CorpusError(f"{shown(name)}: is a link to {target}, which is not there; restore it, or correct {setting}")


def _folders(root: str, hidden: tuple[str, ...]) -> Iterator[str]:
    """``root`` and the folders below it, each once: those that lie there before those that are only linked.

    Args:
        hidden: how the names of folders begin that are left out.
    """
    met: set[str] = set()
    waiting, links = [root], []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in met:
            continue
        met.add(real)
        yield folder
        with os.scandir(folder) as entries:
            found = [each for each in entries if each.is_dir() and not each.name.startswith(hidden)]
        waiting += sorted((each.path for each in found if not each.is_symlink()), reverse=True)
        links += sorted(each.path for each in found if each.is_symlink())


def _files(folder: str) -> Iterator[str]:
    """The files of a folder that are not hidden, and links that lead nowhere."""
    with os.scandir(folder) as entries:
        yield from (
            each.path
            for each in entries
            if not each.name.startswith(HIDDEN) and (each.is_file() or not os.path.exists(each.path))
        )


def _literal(pattern: str) -> str:
    """``pattern`` with the folders that it begins with, and that are there under these very names, as no pattern."""
    parts = Path(pattern).parts
    for end in range(len(parts) - 1, 0, -1):
        folder = str(Path(*parts[:end]))
        if glob.has_magic(folder) and os.path.isdir(folder):
            return os.path.join(glob.escape(folder), *parts[end:])
    return pattern


def _glob(pattern: str) -> Iterator[str]:
    """What a glob names, in which ``**`` stands for folders of any depth."""
    before, found, after = _parted(pattern)
    if not found:
        yield from glob.iglob(pattern)
        return
    for root in glob.glob(before) if glob.has_magic(before) else [before]:
        if not os.path.isdir(root or os.curdir):
            continue
        for folder in _folders(root or os.curdir, HIDDEN_FROM_GLOBS):
            place = os.path.relpath(folder, root or os.curdir)
            place = root if place == os.curdir else os.path.join(root, place)
            yield from _glob(os.path.join(glob.escape(place), after or "*"))


def _parted(pattern: str) -> tuple[str, bool, str]:
    """What stands before the first ``**``, whether there is one, and what stands after it."""
    parts = Path(pattern).parts
    if ANY_DEPTH not in parts:
        return pattern, False, ""
    at = parts.index(ANY_DEPTH)
    return str(Path(*parts[:at])) if at else "", True, str(Path(*parts[at + 1 :])) if parts[at + 1 :] else ""


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Each name once, and each file once however many links lead to its folder."""
    met: set[tuple[str, str]] = set()
    for name in names:
        folder, base = os.path.split(name)
        place = (os.path.realpath(folder), base)
        if place not in met:
            met.add(place)
            yield name


def _remote(pattern: str, setting: str) -> list[File]:
    try:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(pattern)
        if store.isdir(root):
            paths = [path for path in store.find(root) if not _hidden(Path(path), root)]
        elif store.isfile(root):
            paths = [root]
        else:
            paths = store.glob(root) if glob.has_magic(pattern) else []
        infos = [(path, store.info(path)) for path in paths]
        found = [(store.unstrip_protocol(path), info["size"]) for path, info in infos if info["type"] != "directory"]
    except (ImportError, ValueError) as error:
        raise CorpusError(f"{pattern}: {error}; pip install 'sesame[s3]' or 'sesame[gcs]', or correct it") from None
    except Exception as error:
        raise unanswered(pattern, error) from None
    return [File(url, url, size) for url, size in sorted(found)] or _refuse_nothing(pattern, setting)


def _hidden(path: Path, folder: str) -> bool:
    return any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)
