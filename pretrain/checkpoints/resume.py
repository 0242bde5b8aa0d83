"""A run that goes on from its checkpoint is compared with it, setting by setting.

What must be the same and is not is refused, unless ``resume.accept`` names it. Every difference is written down in the
checkpoints that follow. ``python -m pretrain.settings_table`` prints the table of all settings in ``docs/resume.md``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

import configs
from configs import Section
from configs.errors import CheckpointError
from configs.kinds import Derived, Kind, kind_of
from data_pipeline.dataset.shards import Dataset
from data_pipeline.examples.corrupt import CorruptConfig
from pretrain.checkpoints.record import Change, Record
from pretrain.data.batches import Start

ORDERS = ("data.dataset", "seed")
"""Settings of which the order of the rows is made: another order begins with its first row."""
DATASET = "data.dataset"
"""The one setting that is compared by what is in it, not by its value: a folder may be moved."""


class ResumeConfig(Section):
    """What a run may do with a checkpoint of other settings."""

    accept: Derived[tuple[str, ...]] = ()
    """Settings by key, such as 'data.global_batch', that must be the same as in the checkpoint but may now differ. The
    change is written down in the checkpoints that follow."""


class Setting(NamedTuple):
    key: str
    field: FieldInfo
    value: Any
    """As plain JSON."""


class Origin(NamedTuple):
    """What a run goes on from."""

    start: Start
    """Where in the data."""
    dataset_sha256: str
    dataset_first_sample: int
    """Sequences consumed, of other datasets, before the first of this one."""
    changes: tuple[Change, ...] = ()
    """Of all times that the run went on."""
    new_changes: tuple[Change, ...] = ()
    """Of this time."""

    def facts(self, position: int) -> dict[str, Any]:
        """The fields of a checkpoint's record that follow, ``position`` sequences into the dataset."""
        return {
            "samples": self.dataset_first_sample + position,
            "dataset_sha256": self.dataset_sha256,
            "dataset_first_sample": self.dataset_first_sample,
            "changes": self.changes,
        }


def origin(config: Section, accept: tuple[str, ...], dataset: Dataset, resumed: tuple[Path, Record] | None) -> Origin:
    """Compare a run with the checkpoint that it goes on from, if there is one, and say where in the data it begins.

    A dataset that is not the checkpoint's is read from its first row, and so is one in another order.

    Raises:
        CheckpointError: a setting differs that must be the same.
    """
    sha256 = fingerprint(dataset)
    if resumed is None:
        return Origin(Start(), sha256, 0)
    folder, record = resumed
    new = compare(config, accept, folder, record, sha256)
    is_new_order = any(change.key in ORDERS for change in new)
    first = record.samples if is_new_order else record.dataset_first_sample
    return Origin(Start(record.step, record.samples - first), sha256, first, (*record.changes, *new), new)


def settings(config: Section, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a resolved configuration."""
    plain = configs.dump(config)
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field, plain[name])


def check_accepted(config: Section, accept: tuple[str, ...]) -> None:
    """Raise a ValueError if ``accept`` names what is no setting that must stay the same."""
    fixed = [each.key for each in settings(config) if kind_of(each.field) is Kind.FIXED]
    for key in accept:
        if key not in fixed:
            raise ValueError(f"accept names '{key}', which is none of the settings that must stay: {', '.join(fixed)}")


def compare(
    config: Section, accept: tuple[str, ...], folder: Path, record: Record, dataset_sha256: str
) -> tuple[Change, ...]:
    """Return what differs between the run and the checkpoint ``folder`` that it goes on from.

    Args:
        dataset_sha256: ``fingerprint`` of the run's dataset.

    Raises:
        CheckpointError: a setting differs that must be the same.
    """
    found = list(_differences(config, record, dataset_sha256))
    refused = [change for change, kind in found if kind is Kind.FIXED and change.key not in accept]
    if refused:
        names = ", ".join(f'"{change.key}"' for change in refused)
        raise CheckpointError(
            f"{folder}: a run that goes on must keep what its checkpoint has, but {describe(refused)}; set it back, "
            f"or begin a new run in another folder with --set initial_checkpoint={folder}, or allow the change with "
            f"--set 'resume.accept=[{names}]'"
        )
    return tuple(change for change, _ in found)


def describe(changes: list[Change] | tuple[Change, ...]) -> str:
    """Changes in one line."""
    return ", ".join(
        f"{change.key} {_shown(change.before)} has other rows"
        if change.before == change.after
        else f"{change.key} {_shown(change.before)} -> {_shown(change.after)}"
        for change in changes
    )


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the training rows and of how they are masked, wherever the folder lies."""
    manifest = dataset.manifest
    digests = [shard.sha256 for shard in manifest.splits["train"].shards]
    # Without what is usual, so that a setting that is new in Sesame changes nothing.
    masking = CorruptConfig.model_validate(manifest.recipe["corrupt"]).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([digests, masking], sort_keys=True).encode()).hexdigest()


def _differences(config: Section, record: Record, dataset_sha256: str) -> Iterator[tuple[Change, Kind | None]]:
    for setting in settings(config):
        kind = kind_of(setting.field)
        before = _at(record.config, setting)
        if setting.key == DATASET:
            is_same = _same_dataset(before, setting.value, record, dataset_sha256)
        else:
            is_same = before == setting.value
        if kind is Kind.DERIVED or is_same:
            continue
        yield Change(step=record.step, key=setting.key, before=before, after=setting.value), kind
        if setting.key == "model.family":
            # The other settings of two families have nothing to do with each other.
            return


def _at(values: Any, setting: Setting) -> Any:
    """The value of a checkpoint, which may be from before there was such a setting: then it had what is usual."""
    for name in setting.key.split("."):
        if not isinstance(values, Mapping) or name not in values:
            return setting.value if setting.field.is_required() else _plain_default(setting.field)
        values = values[name]
    return values


def _plain_default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def _same_dataset(before: Any, path: str, record: Record, sha256: str) -> bool:
    if record.dataset_sha256 is not None:
        return record.dataset_sha256 == sha256
    # A checkpoint from before that was written down.
    return isinstance(before, str) and Path(before).resolve() == Path(path).resolve()


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
