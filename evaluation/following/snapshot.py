"""A copy of a checkpoint that stays while it is scored: the run may remove its own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints import record as records


@contextmanager
def snapshot(checkpoint: Path, folder: Path) -> Iterator[Path]:
    """Yield ``folder`` with the files of a checkpoint: hard links, which take no space, or copies on another disk.

    Raises:
        CheckpointError: the checkpoint was removed meanwhile.
    """
    folder.mkdir(parents=True)
    try:
        try:
            # The record is what a run removes first.
            for name in (*records.read(checkpoint).files, records.FILE):
                _link(checkpoint / name, folder / name)
        except FileNotFoundError:
            raise CheckpointError(f"{checkpoint}: was removed by the run before it could be scored") from None
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
