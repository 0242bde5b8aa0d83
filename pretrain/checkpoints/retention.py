"""Which folders of a run are its checkpoints, and which of them are removed."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from configs.errors import CheckpointError
from pretrain.checkpoints import record

PARTIAL = ".partial"
WRITTEN = re.compile(r"\w+-\d{5}(-\d{3,})?\.safetensors|tokenizer\.model|checkpoint\.json|\.tmp\w+", re.ASCII)
"""Names that a save gives; the last is what safetensors gives to a file that it has not finished."""


class Retention:
    """The checkpoints of a running run: older ones are removed only when the newest has been trained on from.

    Weights may be lost in the last step before a checkpoint, which shows in the gradients of the next step.
    """

    def __init__(self, output: Path, keep: int, is_rank_zero: bool):
        """``is_rank_zero`` is true in the one process that removes and renames."""
        self.output, self.keep, self.is_rank_zero = output, keep, is_rank_zero
        self._untried: Path | None = None
        self._lost: Path | None = None

    def saved(self, path: Path) -> None:
        self._untried = path
        # Named here: later the first process may have renamed it before another one looks.
        self._lost = _free(path, "diverged")

    def confirm(self) -> None:
        """The weights of the newest checkpoint have given finite gradients."""
        if self.is_rank_zero and self._untried is not None:
            prune(self.output, self.keep, self._untried)
        self._untried = None

    def diverged(self) -> str:
        """Take the name of a checkpoint from one whose weights gave no finite gradients -> what is to be said of it."""
        if self._untried is None or self._lost is None:
            return ""
        if self.is_rank_zero:
            self._untried.rename(self._lost)
        return f"; the checkpoint from which it diverged is now {self._lost}"


def folder(output: Path, step: int) -> Path:
    """The checkpoint of a run after ``step`` optimizer steps."""
    return output / "checkpoints" / f"step-{step:08d}"


def newest(output: Path) -> Path | None:
    """The newest complete checkpoint of the run in ``output``."""
    found = _complete(output)
    return found[max(found)] if found else None


def prune(output: Path, keep: int, saved: Path) -> None:
    """Remove all but the newest ``keep`` checkpoints, and what an interrupted save has left.

    ``saved`` stays, what a link points to stays, and so does everything that no save has written.
    """
    found = _complete(output)
    linked = _link_targets(output)
    for step in sorted(found)[:-keep]:
        path = found[step]
        if path != saved and not path.is_symlink() and not any(_inside(target, path) for target in linked):
            _remove(path)
    for path in _entries(output):
        if path.name.endswith(PARTIAL) and _step(path.name.removesuffix(PARTIAL)) is not None:
            remove_partial(path)


def remove_partial(path: Path) -> bool:
    """Remove what an unfinished save has left, nothing else; whether ``path`` is now free."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        return False
    if path.exists() and all(WRITTEN.fullmatch(each.name) for each in path.iterdir()):
        shutil.rmtree(path)
    return not path.exists()


def publish(partial: Path, final: Path) -> None:
    """Give a complete checkpoint its name; what stands there already is moved aside, never removed."""
    if os.path.lexists(final):
        final.rename(_free(final, "before"))
    partial.rename(final)


def _free(path: Path, suffix: str) -> Path:
    """A name beside ``path`` that nothing has."""
    number = 1
    while os.path.lexists(found := path.with_name(f"{path.name}.{suffix}-{number}")):
        number += 1
    return found


def _entries(output: Path) -> list[Path]:
    try:
        return sorted((output / "checkpoints").iterdir())
    except FileNotFoundError:
        return []


def _step(name: str) -> int | None:
    """The step in the name of a checkpoint, None if it is another name."""
    number = name.removeprefix("step-")
    if not (name.startswith("step-") and number.isascii() and number.isdecimal() and len(number) < 19):
        return None
    return int(number) if f"step-{int(number):08d}" == name else None


def _complete(output: Path) -> dict[int, Path]:
    """Complete checkpoints by step. A link to another checkpoint of the run is a second name, not a checkpoint."""
    home = os.path.realpath(output / "checkpoints")
    found = {}
    for path in _entries(output):
        step = _step(path.name)
        second_name = path.is_symlink() and os.path.dirname(os.path.realpath(path)) == home
        if step is not None and not second_name and (path / record.FILE).is_file():
            found[step] = path
    return found


def _link_targets(output: Path) -> list[str]:
    """Where the links in a run's folder and among its checkpoints point to."""
    return [os.path.realpath(path) for path in (*output.iterdir(), *_entries(output)) if path.is_symlink()]


def _inside(target: str, path: Path) -> bool:
    return Path(target).is_relative_to(os.path.realpath(path))


def _remove(path: Path) -> None:
    """Remove the files of a checkpoint, and its folder if nobody has put something else there."""
    try:
        names = list(record.read(path).files)
    except CheckpointError:
        return
    # Without it the rest is no checkpoint, whenever this is interrupted.
    (path / record.FILE).unlink()
    for name in names:
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()
