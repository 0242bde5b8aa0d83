"""The files of a path, a folder or a glob, on local disks or in a store that fsspec supports.

A path that exists is never read as a glob: a folder may be called ``data[v1]``. Folders are searched through links, but
each folder once, so that links may form loops.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources.files import File
from sesame.data_pipeline.sources.streams import printable, store_error

ANY_DEPTH = "**"
HIDDEN = (".", "_")
"""First characters of names that a folder is not read for: .git, _SUCCESS."""
HIDDEN_FROM_GLOBS = (".",)
SPECIAL = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def matching(pattern: str, setting: str = "source.paths") -> list[File]:
    """Return the files of a path, a folder (all below it except hidden ones) or a glob, sorted.

    Args:
        setting: key of the configuration, for messages.

    Raises:
        CorpusError: nothing matches, a link is broken, a folder or file cannot be read, or the store needs a package
            that is not installed.
    """
    try:
        return _remote(pattern, setting) if "://" in pattern else _local(pattern, setting)
    except OSError as error:
        name = printable(os.fsdecode(error.filename or pattern))
        raise CorpusError(f"{name}: cannot be read ({error.strerror or error}); correct it, or {setting}") from None


def _local(pattern: str, setting: str) -> list[File]:
    if os.path.isdir(pattern):
        names = [name for folder in _folders(str(Path(pattern)), HIDDEN) for name in _files(folder)]
        if not names:
            raise CorpusError(f"{printable(pattern)}: the folder has no file other than hidden ones; correct {setting}")
    elif os.path.lexists(pattern):
        _check_regular(pattern, setting)
        names = [pattern]
    elif glob.has_magic(pattern):
        names = [name for name in _unique(sorted(_glob(_escape_existing(pattern)))) if not os.path.isdir(name)]
    else:
        names = []
    if not names:
        _raise_no_match(pattern, setting)
    for name in names:
        _check_link(name, setting)
    return [_file(name) for name in sorted(names) if os.path.isfile(name)] or _raise_no_match(pattern, setting)


def _file(name: str) -> File:
    return File(printable(name), os.path.abspath(name), os.path.getsize(name))


def _raise_no_match(pattern: str, setting: str) -> NoReturn:
    what = "matches no file" if glob.has_magic(pattern) else "no such file"
    raise CorpusError(f"{printable(pattern)}: {what}; correct {setting}")


def _check_regular(name: str, setting: str) -> None:
    _check_link(name, setting)
    mode = os.stat(name).st_mode
    for is_special, what in SPECIAL.items():
        if is_special(mode):
            raise CorpusError(
                f"{printable(name)}: is {what}, not a file; write its content to a file, or correct {setting}"
            )


def _check_link(name: str, setting: str) -> None:
    if os.path.islink(name) and not os.path.exists(name):
        target = printable(os.readlink(name))
        raise CorpusError(
            f"{printable(name)}: is a link to {target}, which does not exist; restore it, or correct {setting}"
        )


def _folders(root: str, hidden: tuple[str, ...]) -> Iterator[str]:
    """Yield ``root`` and the folders below it, each once; linked folders last.

    Args:
        hidden: first characters of the names of folders to skip.
    """
    seen: set[str] = set()
    waiting, links = [root], []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        with os.scandir(folder) as entries:
            folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(hidden)]
        waiting += sorted((entry.path for entry in folders if not entry.is_symlink()), reverse=True)
        links += sorted(entry.path for entry in folders if entry.is_symlink())


def _files(folder: str) -> Iterator[str]:
    """Yield the files of a folder that are not hidden, and broken links."""
    with os.scandir(folder) as entries:
        yield from (
            each.path
            for each in entries
            if not each.name.startswith(HIDDEN) and (each.is_file() or not os.path.exists(each.path))
        )


def _escape_existing(pattern: str) -> str:
    """Escape the longest leading folder of ``pattern`` that exists under exactly this name."""
    parts = Path(pattern).parts
    for end in range(len(parts) - 1, 0, -1):
        folder = str(Path(*parts[:end]))
        if glob.has_magic(folder) and os.path.isdir(folder):
            return os.path.join(glob.escape(folder), *parts[end:])
    return pattern


def _glob(pattern: str) -> Iterator[str]:
    """Yield the names that match a glob, in which ``**`` stands for folders of any depth."""
    before, has_any_depth, after = _split_at_any_depth(pattern)
    if not has_any_depth:
        yield from glob.iglob(pattern)
        return
    for root in glob.glob(before) if glob.has_magic(before) else [before]:
        if not os.path.isdir(root or os.curdir):
            continue
        for folder in _folders(root or os.curdir, HIDDEN_FROM_GLOBS):
            relative = os.path.relpath(folder, root or os.curdir)
            name = root if relative == os.curdir else os.path.join(root, relative)
            yield from _glob(os.path.join(glob.escape(name), after or "*"))


def _split_at_any_depth(pattern: str) -> tuple[str, bool, str]:
    """(part before the first ``**``, whether there is one, part after it)."""
    parts = Path(pattern).parts
    if ANY_DEPTH not in parts:
        return pattern, False, ""
    at = parts.index(ANY_DEPTH)
    return str(Path(*parts[:at])) if at else "", True, str(Path(*parts[at + 1 :])) if parts[at + 1 :] else ""


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Yield each file once, also if several links point to its folder."""
    seen: set[tuple[str, str]] = set()
    for name in names:
        folder, base = os.path.split(name)
        real = (os.path.realpath(folder), base)
        if real not in seen:
            seen.add(real)
            yield name


def _remote(pattern: str, setting: str) -> list[File]:
    try:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(pattern)
        if store.isdir(root):
            paths = [path for path in store.find(root) if not _is_hidden(Path(path), root)]
        elif store.isfile(root):
            paths = [root]
        else:
            paths = store.glob(root) if glob.has_magic(pattern) else []
        infos = [(path, store.info(path)) for path in paths]
        files = [(store.unstrip_protocol(path), info["size"]) for path, info in infos if info["type"] != "directory"]
    except ImportError as error:
        raise CorpusError(f"{pattern}: {error}; pip install 'sesame[s3]' or 'sesame[gcs]'") from None
    except ValueError as error:
        raise CorpusError(f"{pattern}: {error}; give {setting} local paths, or those of S3 or Google's store") from None
    except Exception as error:
        raise store_error(pattern, error) from None
    return [File(url, url, size) for url, size in sorted(files)] or _raise_no_match(pattern, setting)


def _is_hidden(path: Path, folder: str) -> bool:
    return any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)
