"""Which folders of a run are its checkpoints, and which of them are removed."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from sesame.configs.errors import CheckpointError
from sesame.configs.storage import sync_folder
from sesame.pretrain.checkpoints import record

PARTIAL = ".partial"
"""Suffix of a checkpoint that is not complete."""
WRITTEN = re.compile(r"\w+-\d{5}(-\d{3,})?\.safetensors|tokenizer\.model|checkpoint\.json|\.tmp\w+", re.ASCII)
"""File names that a save uses; the last is that of a file that safetensors has not finished."""


class Retention:
    """Removes the older checkpoints of a running run once the newest is complete and training has continued from it.

    The last step before a checkpoint can make its weights unusable, which shows in the gradients of the next step.
    """

    def __init__(self, output: Path, keep: int, is_rank_zero: bool, resumed: Path | None = None):
        """
        Args:
            is_rank_zero: true in the one process that removes and renames.
            resumed: checkpoint that the run resumes from; whoever wrote it may not have continued from it.
        """
        self.output, self.keep, self.is_rank_zero = output, keep, is_rank_zero
        self._unconfirmed = resumed
        self._unpruned: Path | None = None
        self._diverged_name = _free_name(resumed, "diverged") if resumed else None

    def started(self, path: Path) -> None:
        """Note that the newest checkpoint's state is copied; it is neither complete nor confirmed yet."""
        # Nothing is removed until it is complete: files of a save under way look like those of an interrupted one.
        self._unconfirmed, self._unpruned, self._diverged_name = path, None, None

    def completed(self, path: Path) -> None:
        """Note that the newest checkpoint is complete, and remove older ones if it is confirmed already."""
        self._unpruned = path
        # Chosen here, because later the first process may have renamed it before another one looks.
        self._diverged_name = _free_name(path, "diverged")
        self._prune()

    def confirm(self) -> None:
        """Note that the newest checkpoint's weights gave finite gradients; remove older ones if it is complete."""
        self._unconfirmed = None
        self._prune()

    def diverged(self) -> str:
        """Rename the newest checkpoint if it is not confirmed, so that no run resumes from it; return a message."""
        if self._unconfirmed is None or self._diverged_name is None:
            return ""
        if self.is_rank_zero:
            self._unconfirmed.rename(self._diverged_name)
        message = f"; the checkpoint that it diverged from is now {self._diverged_name}"
        # The newest one is now an older one, which was confirmed before.
        self._unconfirmed = self._unpruned = self._diverged_name = None
        return message

    def _prune(self) -> None:
        if self.is_rank_zero and self._unpruned is not None and self._unconfirmed is None:
            prune(self.output, self.keep, self._unpruned)
            self._unpruned = None


def folder(output: Path, step: int) -> Path:
    """Return where a run saves its checkpoint after ``step`` optimizer steps."""
    return output / "checkpoints" / f"step-{step:08d}"


def newest(output: Path) -> Path | None:
    """Return the newest complete checkpoint of the run in ``output``."""
    complete = all_complete(output)
    return complete[max(complete)] if complete else None


def prune(output: Path, keep: int, saved: Path) -> None:
    """Remove all but the newest ``keep`` checkpoints, and the files of an interrupted save.

    ``saved``, the targets of links, and everything that no save wrote are kept.
    """
    complete = all_complete(output)
    linked = _link_targets(output)
    for step in sorted(complete)[:-keep]:
        path = complete[step]
        if path != saved and not path.is_symlink() and not any(_is_inside(target, path) for target in linked):
            _remove(path)
    for path in _entries(output):
        if path.name.endswith(PARTIAL) and _step(path.name.removesuffix(PARTIAL)) is not None:
            remove_partial(path)


def remove_partial(path: Path) -> bool:
    """Remove an unfinished checkpoint unless it has other files; return whether nothing exists at ``path`` now."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        return False
    if path.exists() and all(WRITTEN.fullmatch(each.name) for each in path.iterdir()):
        shutil.rmtree(path)
    return not path.exists()


def publish(partial: Path, final: Path) -> None:
    """Rename a complete checkpoint to ``final``; anything that exists there is renamed, never removed."""
    sync_folder(partial)
    if os.path.lexists(final):
        final.rename(_free_name(final, "before"))
    partial.rename(final)
    sync_folder(final.parent)


def _free_name(path: Path, suffix: str) -> Path:
    """Return a path beside ``path`` at which nothing exists."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.name}.{suffix}-{number}")):
        number += 1
    return free


def _entries(output: Path) -> list[Path]:
    if not output.is_dir():
        return []
    try:
        return sorted((output / "checkpoints").iterdir())
    except FileNotFoundError:
        return []


def _step(name: str) -> int | None:
    """Return the step in the name of a checkpoint, None for any other name."""
    number = name.removeprefix("step-")
    if not (name.startswith("step-") and number.isascii() and number.isdecimal() and len(number) < 19):
        return None
    return int(number) if f"step-{int(number):08d}" == name else None


def all_complete(output: Path) -> dict[int, Path]:
    """Return complete checkpoints by step, without links to other checkpoints of the run."""
    parent = os.path.realpath(output / "checkpoints")
    complete = {}
    for path in _entries(output):
        step = _step(path.name)
        is_alias = path.is_symlink() and os.path.dirname(os.path.realpath(path)) == parent
        if step is not None and not is_alias and (path / record.FILE).is_file():
            complete[step] = path
    return complete


def _link_targets(output: Path) -> list[str]:
    """Return the targets of the links in a run's folder and among its checkpoints."""
    return [os.path.realpath(path) for path in (*output.iterdir(), *_entries(output)) if path.is_symlink()]


def _is_inside(target: str, path: Path) -> bool:
    return Path(target).is_relative_to(os.path.realpath(path))


def _remove(path: Path) -> None:
    """Remove the files of a checkpoint, and its folder if it has no others."""
    try:
        names = list(record.read(path).files)
    except CheckpointError:
        return
    # First the record: without it the folder is not a checkpoint, even if this is interrupted.
    (path / record.FILE).unlink()
    for name in names:
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()
