"""Atomic files and folders."""

import os
from pathlib import Path

import pytest

from configs import storage


class Stopped(BaseException):
    """Not a subclass of Exception, as KeyboardInterrupt."""


def test_a_file_is_replaced_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with storage.atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Stopped), storage.atomic_file(path) as file:
        file.write(b"half")
        raise Stopped
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with storage.atomic_directory(path) as partial:
        (partial / "part").mkdir()
        (partial / "part" / "file").write_text("content")
        assert not path.exists()
    assert (path / "part" / "file").read_text() == "content"
    assert [each.name for each in path.parent.iterdir()] == ["folder"]


def test_an_exception_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Stopped), storage.atomic_directory(tmp_path / "new" / "folder") as partial:
        (partial / "file").write_text("half")
        raise Stopped
    assert not list(tmp_path.iterdir())


def test_a_nonempty_folder_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(OSError, match="not empty"), storage.atomic_directory(path):
        path.mkdir()
        (path / "mine").write_text("x")
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["folder", "folder/mine"]


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("sync"), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, other: (order.append("name"), replace(self, other))[1])
    storage.write_text(tmp_path / "file", "text")
    assert order == ["sync", "name", "sync"]
    order.clear()
    storage.write_text(tmp_path / "file", "text", durable=False)
    assert order == ["name"]
    assert storage.digest(tmp_path / "file") == storage.digest_of(b"text")
