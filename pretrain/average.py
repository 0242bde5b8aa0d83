"""A checkpoint whose weights are the mean of several checkpoints', or the moving average that a run has kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from sesame.configs.errors import CheckpointError, ConfigError
from sesame.pretrain.checkpoints import load, retention
from sesame.pretrain.checkpoints.load import Checkpoint
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE, CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.huggingface.output_folder import new_folder
from sesame.pretrain.optimizers import AVERAGE


class Averaged(NamedTuple):
    """What was written."""

    folder: Path
    sources: tuple[Path, ...]


def average(paths: Sequence[Path], output: Path, *, last: int = 0, moving: bool = False) -> Averaged:
    """Write a checkpoint without optimizer state into the new folder ``output``.

    Weights are added in fp64. Everything else is as in the checkpoint of the most steps.

    Args:
        paths: checkpoints, or output folders of runs.
        last: the newest so many checkpoints of each run; 0: the newest one.
        moving: the moving averages that the checkpoints hold in place of their weights (``optimizer.average_decay``).

    Raises:
        CheckpointError: one of them is missing, damaged, or of another model or tokenizer.
        ConfigError: ``output`` exists.
    """
    folders = [folder for path in paths for folder in _folders(path, last)]
    if len(folders) < 2 and not moving:
        raise ConfigError(
            f"{folders[0]}: is the only checkpoint, so there is nothing to average; name several, or give --last 5 for "
            "the newest five of a run, or --moving for the moving average that a run has kept"
        )
    kind = AVERAGE if moving else "weights"
    checkpoints = [load.open_checkpoint(folder, kinds=(kind,)) for folder in folders]
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.record.step)
    for checkpoint in checkpoints:
        _require_same_model(checkpoint, newest, moving=moving)
    weights = _mean([checkpoint.tensors(kind) for checkpoint in checkpoints])
    fields = {name: getattr(newest.record, name) for name in CheckpointMetadata.model_fields}
    with new_folder(output) as partial:
        write_weights(
            partial, weights, (newest.folder / TOKENIZER_FILE).read_bytes(), CheckpointMetadata.model_validate(fields)
        )
    return Averaged(output, tuple(folders))


def _folders(path: Path, last: int) -> list[Path]:
    complete = retention.all_complete(path)
    if last and complete:
        return [complete[step] for step in sorted(complete)[-last:]]
    return [load.require_latest(path)]


def _require_same_model(checkpoint: Checkpoint, other: Checkpoint, *, moving: bool) -> None:
    load.check_shapes(checkpoint.folder, checkpoint.record.shapes, other.record.shapes, "leave it out")
    if checkpoint.record.tokenizer_sha256 != other.record.tokenizer_sha256:
        raise CheckpointError(
            f"{checkpoint.folder}: has another tokenizer than {other.folder}, so its weights mean other tokens; leave "
            "it out"
        )
    if moving and not checkpoint.has(AVERAGE):
        raise CheckpointError(
            f"{checkpoint.folder}: holds no moving average; train with optimizer.average_decay = 0.999, or average "
            "checkpoints without --moving"
        )


def _mean(sources: Sequence[load.StoredTensors]) -> dict[str, torch.Tensor]:
    weights = {}
    for name in sources[0].shapes:
        total = sources[0].whole(name).double()
        for source in sources[1:]:
            total += source.whole(name)
        weights[name] = (total / len(sources)).float()
    return weights
