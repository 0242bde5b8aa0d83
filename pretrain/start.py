"""The start of a run: its folder, its precision, its checkpoints, and what it says about itself."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sesame.configs import dump
from sesame.configs.errors import ConfigError
from sesame.configs.storage import locked_folder
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.pretrain.adaptive_masking import AdaptiveMasking
from sesame.pretrain.checkpoints.config import CheckpointConfig
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.initial_checkpoint import InitialCheckpoint, initialize, open_initial_checkpoint
from sesame.pretrain.checkpoints.load import Checkpoint, Process
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import CheckpointWriter, StateOwner
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.checkpoints.stored import Shapes
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.stages import AnyBatches
from sesame.pretrain.learner import Learner
from sesame.pretrain.optimizers import OptimizerKind
from sesame.pretrain.parallel import agreed_precision
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.planning.peak import Peak
from sesame.pretrain.precision import Precision
from sesame.pretrain.reporting.run_record import device_name, recorded_end, versions
from sesame.pretrain.stop import UNLIMITED, TrainingBudget


@contextmanager
def only_run_in(output: Path, mesh: Mesh) -> Iterator[None]:
    """Keep other runs out of the output folder and record how this one ends; a collective.

    Raises:
        ConfigError: another run writes there.
    """
    with locked_folder(output) if mesh.is_rank_zero else nullcontext(True) as is_locked:
        if not mesh.from_rank_zero(float(is_locked)):
            raise ConfigError(
                f"{output}: another run writes into this folder; wait for it or stop it, or choose another --output"
            )
        with recorded_end(output) if mesh.is_rank_zero else nullcontext():
            yield


def resolve_precision(config: RunConfig, mesh: Mesh, checkpoint: Checkpoint | None) -> tuple[RunConfig, Precision]:
    """Return the configuration with its precision in place of "auto", and that precision."""
    before = checkpoint.record.config if checkpoint else None
    parallel, chosen = agreed_precision.resolve(config.parallel, mesh.device, before, mesh.gather_objects)
    return config.model_copy(update={"parallel": parallel}), chosen


def open_adaptive_masking(config: RunConfig, learner: Learner, batches: AnyBatches, mesh: Mesh) -> AdaptiveMasking:
    """Return what masks the rows of ``batches`` by the losses of ``learner``, if the run has it."""
    every, vocabulary_size = config.data.adaptive_masking_every, batches.dataset.manifest.tokenizer.vocabulary_size
    masking = AdaptiveMasking(every, learner.objectives, vocabulary_size, mesh.device, mesh.sum_over_data)
    if every:
        batches.set_mask_weights(masking.weights)
    return masking


def set_initial_weights(
    engine: Engine, config: RunConfig, dataset: Dataset, shapes: Shapes, process: Process
) -> InitialCheckpoint | None:
    """Set the weights of a new run; a collective.

    Returns:
        The checkpoint that they are from, None if they are random.
    """
    tokenizer_sha256 = dataset.manifest.tokenizer.sha256
    initial = open_initial_checkpoint(config.initial_checkpoint, tokenizer_sha256, config.model, shapes, process)
    initialize(engine, shapes, config.seed, config.model, initial)
    return initial


def open_saver(
    owner: StateOwner,
    kind: OptimizerKind,
    shapes: Shapes,
    mesh: Mesh,
    output: Path,
    config: CheckpointConfig,
    tokenizer: Path,
    resumed: Checkpoint | None,
) -> Saver:
    """Return what writes the checkpoints of a run into ``output`` and removes older ones.

    Args:
        owner: of the state that is saved.
        kind: of its optimizer.
        resumed: checkpoint that the run resumes from.
    """
    writer = CheckpointWriter(
        output,
        owner,
        kind.moments,
        shapes,
        tokenizer,
        Process(mesh.rank, mesh.world, mesh.gather_for_saving),
        HostCopy(mesh.device) if config.background else None,
        kind.most_moments,
    )
    last = resumed.folder if resumed else None
    return Saver(writer, Retention(output, config.keep, mesh.is_rank_zero, last), last)


def describe(config: RunConfig, mesh: Mesh, precision: Precision, parameters: int, rows: int) -> str:
    """Return the model, the layout, the precision and the training rows in one line."""
    experts = f", experts over {mesh.expert}" if mesh.expert > 1 else ""
    stage = config.parallel.stage_taken(precision.name, mesh.world, mesh.device.type)
    return (
        f"{config.model.family} with {parameters:,} parameters on {mesh.world} x {mesh.device.type} "
        f"(tensor {mesh.tensor} x data {mesh.data}{experts}, ZeRO {stage}) in "
        f"{precision}{', products of blocks in fp8' * config.parallel.fp8}; {rows:,} training rows"
    )


def facts(
    config: RunConfig, mesh: Mesh, parameters: int, rows: int, peak: Peak, budget: TrainingBudget
) -> dict[str, Any]:
    """Return the same for ``run.jsonl``, with the limits, the device and its peak, the versions and the whole
    configuration.

    ``planned_steps`` are those after which the run ends by steps, epochs or tokens, null if only minutes limit it;
    ``used_seconds`` are those of its minutes that are used.
    """
    return {
        "parameters": parameters,
        "training_rows": rows,
        "planned_steps": budget.steps if budget.steps < UNLIMITED else None,
        "used_seconds": budget.seconds,
        "processes": mesh.world,
        "device": mesh.device.type,
        "device_name": device_name(mesh.device),
        "peak_flops": peak.flops,
        "peak_source": peak.source,
        "versions": versions(),
        "config": dump(config),
    }
