"""``checkpoint.json`` as it is written and read."""

import json
from pathlib import Path

import pytest

from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints.record import Change, CheckpointMetadata

METADATA = CheckpointMetadata(
    step=3,
    samples=24,
    dataset_sha256="1" * 64,
    dataset_first_sample=8,
    seed=1,
    vocabulary_size=4,
    tokenizer_sha256="0" * 64,
    config={"model": {"family": "bert"}},
    changes=(Change(step=2, key="steps", before=2, after=[3, None]),),
)
KEYS = ["format_version", "step", "samples", "dataset_sha256", "dataset_first_sample", "stages", "seconds"]
KEYS += ["first_timed_step", "seed", "vocabulary_size", "tokenizer_sha256", "config", "watched", "processes"]
KEYS += ["loss_scale", "adaptive_masking", "changes", "shapes", "files", "record_sha256"]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = record.write(tmp_path, METADATA, {"a": (4, 2)}, {"tokenizer.model": "2" * 64})
    read = record.read(tmp_path)
    assert {name: getattr(read, name) for name in type(METADATA).model_fields} == dict(METADATA)
    assert read.shapes == {"a": (4, 2)} and read.format_version == record.FORMAT_VERSION
    assert list(json.loads(path.read_text())) == KEYS


def test_a_dataset_cannot_start_after_the_last_sample(tmp_path: Path) -> None:
    record.write(tmp_path, METADATA, {"a": (4, 2)}, {"tokenizer.model": "2" * 64})
    values = json.loads((tmp_path / "checkpoint.json").read_text())
    del values["record_sha256"]
    values |= {"dataset_first_sample": 25, "format_version": 1}
    (tmp_path / "checkpoint.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="dataset_first_sample 25 is after samples 24"):
        record.read(tmp_path)
