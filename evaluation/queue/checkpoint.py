"""The checkpoint of an evaluation: one that Sesame wrote, or a model folder of transformers, which is converted."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sesame.configs.log_lines import timed
from sesame.pretrain.checkpoints.load import latest
from sesame.pretrain.huggingface.from_hf import import_model

FOLDER = ".imported"


@contextmanager
def checkpoint_folder(path: Path, output: Path) -> Iterator[Path]:
    """Yield the folder of a checkpoint.

    Args:
        path: a checkpoint, a run, whose newest checkpoint is taken, or a model folder of transformers.
        output: folder in which a converted model is until the block ends; all machines see it.

    Raises:
        ConversionError: the model folder is incomplete or damaged, or no family can represent its model.
    """
    # Resolved once, because a training run may save a newer checkpoint during the evaluation.
    folder = latest(path)
    if folder is not None or not (path / "config.json").is_file():
        yield folder or path
        return
    imported = output / FOLDER
    shutil.rmtree(imported, ignore_errors=True)
    try:
        model = import_model(path, imported)
        notes = [f"{path}: a {model.family} of transformers, converted", *model.notes]
        print("\n".join(timed(note, is_terminal=sys.stdout.isatty()) for note in notes), flush=True)
        yield imported
    finally:
        shutil.rmtree(imported, ignore_errors=True)
