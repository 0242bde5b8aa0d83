"""Resume a run: find its newest checkpoint, compare every setting with it, and restore its state.

A setting that must stay the same is refused if it differs, unless ``resume.accept`` names it. Every difference is
recorded in later checkpoints. ``docs/resume.md`` is the table of all settings.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import CheckpointError
from sesame.configs.kinds import Kind, kind_of
from sesame.configs.storage import digest_of
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.pretrain.checkpoints import load
from sesame.pretrain.checkpoints.load import Checkpoint, Process
from sesame.pretrain.checkpoints.record import Change, Record
from sesame.pretrain.checkpoints.save import StateOwner
from sesame.pretrain.checkpoints.stored import Shapes
from sesame.pretrain.data.batches import Start
from sesame.pretrain.optimizers import AVERAGE, OptimizerKind

DATASET = "data.dataset"
"""The one setting that is compared by content instead of value: a folder may be moved."""
ORDER_SETTINGS = (DATASET, "seed")
"""Settings that determine the order of the rows; after a change the dataset is read from its first row."""


class Setting(NamedTuple):
    key: str
    field: FieldInfo
    value: Any
    """As plain JSON."""


class ResumeState(NamedTuple):
    """Where a run starts in its data, and which settings were changed before."""

    start: Start
    dataset_sha256: str
    dataset_first_sample: int
    """Sequences of other datasets that were consumed before the first one of this dataset."""
    changes: tuple[Change, ...] = ()
    """All changes since step 0."""
    new_changes: tuple[Change, ...] = ()
    """Changes since the checkpoint that is resumed from."""

    @property
    def message(self) -> str:
        """The new changes, empty if there are none."""
        return f"changed since the checkpoint: {describe(self.new_changes)}" if self.new_changes else ""


def find_checkpoint(output: Path, dataset: Dataset, process: Process) -> Checkpoint | None:
    """Find and check the checkpoint that a run in ``output`` resumes from; a collective.

    Raises:
        CheckpointError: it is damaged, has another tokenizer than ``dataset``, or ``output`` is a checkpoint itself.
    """
    folder = load.latest(output, process)
    if folder is None:
        return None
    if folder == output:
        raise CheckpointError(
            f"{folder}: is a checkpoint itself, so a run cannot write into it; choose another output folder, and start "
            f"from its weights with --set initial_checkpoint={folder}"
        )
    checkpoint = load.open_checkpoint(folder, process)
    if checkpoint.record.tokenizer_sha256 != dataset.manifest.tokenizer.sha256:
        raise CheckpointError(
            f"{dataset.path}: was made with another tokenizer than the checkpoint {folder}; prepare the corpus with "
            "the checkpoint's tokenizer.model as [tokenizer] model, or choose another output folder"
        )
    return checkpoint


def resume_state(
    config: Section, accept: Sequence[str], dataset: Dataset, checkpoint: Checkpoint | None
) -> ResumeState:
    """Compare a run's settings with its checkpoint's, if there is one, and return where the run starts.

    Another dataset than the checkpoint's, or another order of it, is read from its first row.

    Raises:
        CheckpointError: a setting differs that must be the same.
    """
    sha256 = fingerprint(dataset)
    if checkpoint is None:
        return ResumeState(Start(), sha256, 0)
    record = checkpoint.record
    changes = compare(config, accept, checkpoint, sha256)
    is_new_order = any(change.key in ORDER_SETTINGS for change in changes)
    first = record.samples if is_new_order else record.dataset_first_sample
    return ResumeState(Start(record.step, record.samples - first), sha256, first, (*record.changes, *changes), changes)


def restore(checkpoint: Checkpoint, owner: StateOwner, kind: OptimizerKind, shapes: Shapes) -> None:
    """Load a checkpoint's weights and optimizer state into ``owner``, whose parameters have the whole ``shapes``.

    Args:
        kind: of the optimizer.

    Raises:
        CheckpointError: the checkpoint is of a model of another shape, or of another optimizer.
    """
    load.check_shapes(checkpoint.folder, checkpoint.record.shapes, shapes)
    owner.set_steps(checkpoint.record.updates)
    owner.set_loss_scale(checkpoint.record.loss_scale)
    for key in (None, *kind.moments):
        if key == AVERAGE and not checkpoint.has(key):
            # The average begins with the weights.
            continue
        names = [name for name in shapes if key is None or key in kind.moments_of(name)]
        tensors = checkpoint.tensors(key or "weights", names)
        for name in names:
            owner.set_state(key, name, tensors.rows(name))


def settings(config: Section, prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of a resolved configuration."""
    plain = configs.dump(config)
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field, plain[name])


def check_accepted(config: Section, accept: Sequence[str]) -> None:
    """Raise a ValueError if a key in ``accept`` is not a setting that must stay the same."""
    fixed = [each.key for each in settings(config) if kind_of(each.field) is Kind.FIXED]
    for key in accept:
        if key not in fixed:
            raise ValueError(
                f"accept names '{key}', which is not a setting that must stay the same; those are {', '.join(fixed)}"
            )


def compare(config: Section, accept: Sequence[str], checkpoint: Checkpoint, dataset_sha256: str) -> tuple[Change, ...]:
    """Return what differs between a run's settings and those of the checkpoint that it resumes from.

    Args:
        dataset_sha256: ``fingerprint`` of the run's dataset.

    Raises:
        CheckpointError: a setting differs that must be the same.
    """
    differences = list(_differences(config, checkpoint.record, dataset_sha256))
    refused = [change for change, kind in differences if kind is Kind.FIXED and change.key not in accept]
    if refused:
        keys = ", ".join(f'"{change.key}"' for change in refused)
        raise CheckpointError(
            f"{checkpoint.folder}: a resumed run must keep these settings of its checkpoint: {describe(refused)}; "
            "change them back, or start a new run in another folder with --set "
            f"initial_checkpoint={checkpoint.folder}, or allow the change with --set 'resume.accept=[{keys}]'"
        )
    return tuple(change for change, _ in differences)


def describe(changes: Sequence[Change]) -> str:
    """Return changes as one line of text."""
    return ", ".join(
        f"{change.key} {_value_text(change.before)} has other rows"
        if change.before == change.after
        else f"{change.key} {_value_text(change.before)} -> {_value_text(change.after)}"
        for change in changes
    )


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 of a dataset's training rows and of how they are masked; its path does not matter."""
    manifest = dataset.manifest
    digests = [shard.sha256 for shard in manifest.splits["train"].shards]
    # Without default values, so that a setting that is added later changes nothing.
    masking = CorruptConfig.model_validate(manifest.recipe["corrupt"]).model_dump(mode="json", exclude_defaults=True)
    return digest_of(json.dumps([digests, masking], sort_keys=True).encode())


def _differences(config: Section, record: Record, dataset_sha256: str) -> Iterator[tuple[Change, Kind | None]]:
    for setting in settings(config):
        kind = kind_of(setting.field)
        before = _stored_value(record.config, setting)
        if setting.key == DATASET:
            is_same = _is_same_dataset(before, setting.value, record, dataset_sha256)
        else:
            is_same = before == setting.value
        if kind is Kind.DERIVED or is_same:
            continue
        yield Change(step=record.step, key=setting.key, before=before, after=setting.value), kind
        if setting.key == "model.family":
            # The other settings of two families cannot be compared.
            return


def _stored_value(values: Any, setting: Setting) -> Any:
    """Return a setting of a checkpoint; a checkpoint that is older than the setting has its default.

    None if the table of the setting is optional and was not there.
    """
    names = setting.key.split(".")
    for number, name in enumerate(names, 1):
        if values is None:
            return None
        if not isinstance(values, Mapping) or name not in values:
            if not setting.field.is_required():
                return _plain_default(setting.field)
            return setting.value if number == len(names) else None
        values = values[name]
    # Written by an earlier version, with its words.
    converters = [each.func for each in setting.field.metadata if isinstance(each, BeforeValidator)]
    return converters[0](values) if converters else values  # pyright: ignore[reportCallIssue]


def _plain_default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def _is_same_dataset(before: Any, path: str, record: Record, sha256: str) -> bool:
    if record.dataset_sha256 is not None:
        return record.dataset_sha256 == sha256
    # Format 1 has no fingerprint.
    return isinstance(before, str) and Path(before).resolve() == Path(path).resolve()


def _value_text(value: Any) -> str:
    return "unset" if value is None else str(value)
