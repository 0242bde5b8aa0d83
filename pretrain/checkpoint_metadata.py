"""What a checkpoint says about the run that writes it."""

from sesame.configs import dump
from sesame.data_pipeline.dataset.manifest import Manifest
from sesame.pretrain.checkpoints.record import (
    AdaptiveMaskingState,
    CheckpointMetadata,
    LossScaleState,
    StagePosition,
    Watched,
)
from sesame.pretrain.checkpoints.resume import ResumeState
from sesame.pretrain.config import RunConfig
from sesame.pretrain.stop import TrainingBudget


def checkpoint_metadata(
    config: RunConfig,
    manifest: Manifest,
    state: ResumeState,
    budget: TrainingBudget,
    watched: Watched,
    *,
    step: int,
    position: int,
    stages: tuple[StagePosition, ...],
    processes: int,
    loss_scale: LossScaleState | None,
    adaptive_masking: AdaptiveMaskingState | None,
) -> CheckpointMetadata:
    """Return the metadata of a checkpoint after ``step`` optimizer steps, at ``position`` in the dataset.

    Args:
        stages: positions in the datasets of a run that has several.
        loss_scale: None unless the run is in fp16.
        adaptive_masking: None unless the run has it.
    """
    return CheckpointMetadata(
        step=step,
        samples=state.dataset_first_sample + position,
        dataset_sha256=state.dataset_sha256,
        dataset_first_sample=state.dataset_first_sample,
        stages=stages,
        seconds=budget.seconds,
        first_timed_step=budget.first_timed_step if budget.seconds else 0,
        seed=config.seed,
        vocabulary_size=manifest.tokenizer.vocabulary_size,
        tokenizer_sha256=manifest.tokenizer.sha256,
        config=dump(config),
        watched=watched,
        processes=processes,
        loss_scale=loss_scale,
        adaptive_masking=adaptive_masking,
        changes=state.changes,
    )
