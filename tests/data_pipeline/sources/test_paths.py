"""The files of a path, a folder or a glob: links, unusual names, and other than regular files."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.sources import paths
from sesame.data_pipeline.sources.paths import matching
from tests.data_pipeline.sources.test_sources import config, documents


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files; its parent is the current folder."""
    for name in ("data/a.txt", "data/deep/b.txt", "data/deep/er/c.txt", "data/.git/d.txt", "data/_logs/e.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def names(pattern: str) -> list[str]:
    return [file.name for file in matching(pattern)]


OF_FOLDER = ["data/a.txt", "data/deep/b.txt", "data/deep/er/c.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("data", OF_FOLDER),
        ("data/", OF_FOLDER),
        ("./data", OF_FOLDER),
        ("data/**", [*OF_FOLDER, "data/_logs/e.txt"]),
        ("data/**/*.txt", [*OF_FOLDER, "data/_logs/e.txt"]),
        ("**/[bc].txt", ["data/deep/b.txt", "data/deep/er/c.txt"]),
        ("data/**/er/**", ["data/deep/er/c.txt"]),
        ("*/a.txt", ["data/a.txt"]),
    ],
)
def test_globs_and_folders(folder: Path, pattern: str, found: list[str]) -> None:
    assert names(pattern) == sorted(found)


@pytest.mark.parametrize("pattern", ["data", "data/**", "data/**/*.txt"])
def test_linked_folders_are_followed_once(folder: Path, pattern: str) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.txt").write_text("x")
    (elsewhere / "back").symlink_to(folder)
    for name in ("self", "again"):
        (folder / name).symlink_to(folder)
    (folder / "deep" / "up").symlink_to("..")
    (folder / "0").symlink_to(folder / "deep")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked too").symlink_to(elsewhere)
    (folder / "other name.txt").symlink_to("a.txt")
    hidden = ["data/_logs/e.txt"] if "*" in pattern else []
    assert names(pattern) == sorted([*OF_FOLDER, *hidden, "data/linked/x.txt", "data/other name.txt"])


@pytest.mark.parametrize("name", ["data[v1]", "a*", "what?", "[ab", "**"])
def test_an_existing_name_is_not_a_pattern(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name / "x.txt", tmp_path / "data1" / "y.txt", tmp_path / "av" / "y.txt"):
        path.parent.mkdir()
        path.write_text("text")
    assert names(str(tmp_path / name)) == [str(tmp_path / name / "x.txt")]
    assert names(str(tmp_path / name / "*.txt")) == [str(tmp_path / name / "x.txt")]
    assert names(str(tmp_path / name / "x.txt")) == [str(tmp_path / name / "x.txt")]


def test_an_existing_name_is_not_a_pattern_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/odd/data[v1]/x.txt", b"text")
    store.pipe("/odd/data1/y.txt", b"text")
    for pattern in ("memory://odd/data[v1]", "memory://odd/data[v1]/x.txt"):
        assert names(pattern) == ["memory:///odd/data[v1]/x.txt"]
    assert names("memory://odd/data[1]/*") == ["memory:///odd/data1/y.txt"]


def test_a_name_that_is_not_utf8_is_read_and_printable(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    try:
        Path(os.fsdecode(path)).write_text("one\n\ntwo")
    except OSError:
        pytest.skip("this file system has no such names")
    for pattern in (str(tmp_path), str(tmp_path / "*.txt"), str(tmp_path / "**")):
        found = documents(config("text", pattern))
        assert found == [("one", "caf\\xe9.txt@0"), ("two", "caf\\xe9.txt@5")]
        str(found).encode()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def hidden_only(path: Path) -> None:
    (path / ".git").mkdir(parents=True)
    (path / ".git" / "x").write_text("x")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (pipe, r"odd: is a pipe, not a file"),
        (bound_socket, r"odd: is a socket, not a file"),
        (broken_link, r"odd: is a link to nowhere, which does not exist"),
        (hidden_only, r"odd: the folder has no file other than hidden ones"),
        (Path.mkdir, r"odd: the folder has no file"),
        (lambda path: None, r"odd: no such file"),
    ],
)
def test_other_than_a_file_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("odd"))
    with pytest.raises(CorpusError, match=rf"^{sentence}.*correct source.paths$"):
        matching("odd")


@pytest.mark.parametrize("pattern", ["data", "data/*", "data/**"])
def test_a_broken_link_is_an_error(folder: Path, pattern: str) -> None:
    (folder / "gone.txt").symlink_to("nowhere.txt")
    with pytest.raises(CorpusError, match=r"data/gone.txt: is a link to nowhere.txt, which does not exist"):
        matching(pattern)


def test_a_pipe_in_a_folder_is_ignored(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    assert names("data") == OF_FOLDER


def test_missing_permissions_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", name)

    (unit,) = matching("data/a.txt")
    monkeypatch.setattr(paths.os, "scandir", refuse)
    with pytest.raises(CorpusError, match=r"^data: cannot be read \(Permission denied\)"):
        matching("data")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CorpusError, match=rf"^{unit.path}: cannot be opened \(Permission denied\)"):
        documents(config("text", "data/a.txt"))
