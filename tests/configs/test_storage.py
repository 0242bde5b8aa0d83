"""Atomic writes of files and folders."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sesame.configs import storage


class Interrupted(BaseException):
    """An exception that is not an Exception, like KeyboardInterrupt."""


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with storage.atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_keeps_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Interrupted), storage.atomic_file(path) as file:
        file.write(b"half")
        raise Interrupted
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path(".")):
        with pytest.raises(IsADirectoryError), storage.atomic_file(path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_folder_exists_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with storage.atomic_directory(path) as partial:
        (partial / "part").mkdir()
        (partial / "part" / "file").write_text("content")
        assert not path.exists()
    assert (path / "part" / "file").read_text() == "content"
    assert [each.name for each in path.parent.iterdir()] == ["folder"]


def test_an_exception_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), storage.atomic_directory(tmp_path / "new" / "folder") as partial:
        (partial / "file").write_text("half")
        raise Interrupted
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(OSError, match="not empty"), storage.atomic_directory(path):
        path.mkdir()
        (path / "mine").write_text("x")
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == ["folder", "folder/mine"]


def test_a_folder_is_replaced_once_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with storage.atomic_directory(path, replace=True) as partial:
        (partial / "new").write_text("new")
        assert (path / "old").read_text() == "old"
    assert [each.relative_to(tmp_path).as_posix() for each in sorted(tmp_path.rglob("*"))] == ["folder", "folder/new"]
    with pytest.raises(Interrupted), storage.atomic_directory(path, replace=True):
        raise Interrupted
    assert [each.relative_to(tmp_path).as_posix() for each in sorted(tmp_path.rglob("*"))] == ["folder", "folder/new"]


def test_a_folder_gets_its_name_back_if_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "folder", Path.rename
    path.mkdir()

    def fail_once(source: Path, target: Path) -> Path:
        if (source / "new").exists():
            raise OSError("no rename")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="no rename"), storage.atomic_directory(path, replace=True) as partial:
        (partial / "new").write_text("new")
    assert list(tmp_path.iterdir()) == [path] and not list(path.iterdir())


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (order.append("sync"), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda self, other: (order.append("rename"), replace(self, other))[1])
    storage.write_text(tmp_path / "file", "text")
    assert order == ["sync", "rename", "sync"]
    order.clear()
    storage.write_text(tmp_path / "file", "text", durable=False)
    assert order == ["rename"]
    assert storage.digest(tmp_path / "file") == storage.digest_of(b"text")


HOLDER = """
import sys
from pathlib import Path
from sesame.configs.storage import locked_folder
with locked_folder(Path(sys.argv[1])) as is_locked:
    print(is_locked, flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_folder_is_locked_for_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = holder(folder)
    with storage.locked_folder(folder) as is_locked:
        assert not is_locked
    assert folder.is_dir()
    first.communicate()
    assert not list(tmp_path.iterdir())
    with storage.locked_folder(folder) as is_locked:
        assert is_locked
        (folder / "file").write_text("content")
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_folder_that_its_holder_removes_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making the folder and opening the lock, and between locking the file and comparing it."""
    folder, real, seen = tmp_path / "new", Path.open, []

    def open_(path: Path, *arguments: Any, **settings: Any) -> Any:
        seen.append(path)
        if len(seen) == 1:
            folder.rmdir()
        file = real(path, *arguments, **settings)
        if len(seen) == 2:
            path.unlink()
            folder.rmdir()
        return file

    monkeypatch.setattr(Path, "open", open_)
    with storage.locked_folder(folder) as is_locked:
        assert is_locked and (folder / ".lock").exists()
    assert len(seen) == 3


def test_what_killed_writers_left_is_removed_but_not_from_folders_of_others(tmp_path: Path) -> None:
    for name in ("", "mine", "other", "other/deep"):
        (tmp_path / name / ".sesame-0123.partial").mkdir(parents=True)
        (tmp_path / name / ".sesame-4567.partial").mkdir()
        (tmp_path / name / "kept").write_text("content")
    (tmp_path / "linked").symlink_to(tmp_path / "other")
    other = holder(tmp_path / "other")
    storage.remove_unfinished(tmp_path)
    left = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.partial")}
    assert left == {"other", "other/deep"} and len(list(tmp_path.rglob("kept"))) == 4
    other.communicate()
    storage.remove_unfinished(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    first = holder(tmp_path)
    first.kill()
    first.communicate()
    with storage.locked_folder(tmp_path) as is_locked:
        assert is_locked


def test_a_line_is_appended_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for line in ("one", "zwei ä"):
        storage.append_line(path, line)
    assert path.read_text(encoding="utf-8") == "one\nzwei ä\n"
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        storage.append_line(Path("/dev/full"), "x" * 10_000)


def test_a_limit_of_the_file_system_leaves_whole_lines(tmp_path: Path) -> None:
    """The system writes a part of a line that no longer fits."""
    code = (
        "import resource, sys; from pathlib import Path; from sesame.configs import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for _ in range(3): storage.append_line(Path(sys.argv[1]), 'x' * 399)"
    )
    path = tmp_path / "lines"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr and str(path) in done.stderr
    assert path.read_text() == 2 * ("x" * 399 + "\n")
