"""The data of a run: its datasets, what changes of them over the run, and where it starts in them."""

from collections.abc import Sequence
from pathlib import Path

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.pretrain.checkpoints.record import Record, StagePosition
from sesame.pretrain.checkpoints.resume import ResumeState, fingerprint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.dataset_checks import check_lengths
from sesame.pretrain.data.skipped import Skipped
from sesame.pretrain.data.stages import AnyBatches, DataSchedule, StagedBatches
from sesame.pretrain.run_length import Rows, planned_steps
from sesame.pretrain.stop import UNLIMITED


def open_batches(
    config: RunConfig, dataset: Dataset, reads: Sequence[str], positions: int | None, data_rank: DataRank, verify: bool
) -> AnyBatches:
    """Return the batches of a run that reads ``dataset`` and those of ``data.stages``.

    Args:
        positions: longest row that the model accepts.
        verify: check every checksum of the stages' datasets.

    Raises:
        DatasetError: a dataset does not fit the model, its objectives or its schedules, or has another tokenizer.
    """
    datasets = [dataset, *(open_dataset(Path(stage.dataset), verify=verify) for stage in config.data.stages)]
    tokenizer = dataset.manifest.tokenizer.sha256
    for other in datasets:
        check_lengths(other, positions)
        if other.manifest.tokenizer.sha256 != tokenizer:
            raise DatasetError(
                f"{other.path}: has another tokenizer than {dataset.path}; prepare it with that one's tokenizer.model "
                "as [tokenizer] model"
            )
    stages = [Batches(each, config.data, reads, config.seed, data_rank) for each in datasets]
    schedule = config.schedule
    if len(stages) == 1 and not schedule.global_batch and not schedule.mask_rate:
        return stages[0]
    begins = tuple(stage.at for stage in config.data.stages)
    return StagedBatches(stages, DataSchedule(schedule.global_batch, schedule.mask_rate, begins, UNLIMITED))


def start_data(config: RunConfig, batches: AnyBatches, state: ResumeState, record: Record | None) -> int:
    """Set where a run starts in its data, and return after how many steps it ends without a time limit."""
    stages = batches.stages if isinstance(batches, StagedBatches) else [batches]
    known = _consumed(stages, state, record)
    sample = state.start.sample if known[0] is None else known[0]
    counted = [Rows(each.train.rows, each.dataset.manifest.splits["train"].tokens) for each in stages]
    ranges = record.watched.skipped_samples if record else ()
    trained_on = sample - Skipped.of_run(ranges, state.dataset_first_sample).before(sample)
    steps = planned_steps(config, counted, (state.start.step, trained_on))
    if isinstance(batches, StagedBatches):
        batches.schedule = batches.schedule._replace(steps=steps)
        batches.resume(state.start.step, [sample, *(samples or 0 for samples in known[1:])], state.start.sample)
    else:
        batches.start = state.start._replace(sample=sample)
    return steps


def _consumed(stages: Sequence[Batches], state: ResumeState, record: Record | None) -> list[int | None]:
    """Return the sequences consumed of each stage's dataset, None where the checkpoint does not say.

    The first stage of a dataset continues its first one, the second one its second one, and so on.
    """
    # In a new order all are read from their first row.
    is_new_order = any(change.key == "seed" for change in state.new_changes)
    positions = record.stages if record is not None and not is_new_order else ()
    hashes = _numbered([each.dataset_sha256 for each in positions])
    samples = {key: each.samples for key, each in zip(hashes, positions, strict=True)}
    return [samples.get(key) for key in _numbered([fingerprint(each.dataset) for each in stages])]


def _numbered(hashes: Sequence[str]) -> list[tuple[str, int]]:
    """Return each with how often it came before."""
    return [(sha256, hashes[:number].count(sha256)) for number, sha256 in enumerate(hashes)]


def stage_positions(batches: AnyBatches, step: int) -> tuple[StagePosition, ...]:
    """Return what a checkpoint records of several datasets; nothing for one without schedules."""
    if not isinstance(batches, StagedBatches):
        return ()
    batches.position(step)
    pairs = zip(batches.stages, batches.consumed, strict=True)
    return tuple(StagePosition(dataset_sha256=fingerprint(each.dataset), samples=samples) for each, samples in pairs)
