"""Which checkpoints are removed, and which files a failed save leaves."""

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame.configs.errors import CheckpointError, TrainingError
from sesame.pretrain.checkpoints import record, retention
from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.load import SINGLE_PROCESS, Process, latest
from sesame.pretrain.checkpoints.record import LossScaleState
from sesame.pretrain.checkpoints.save import CheckpointWriter
from sesame.pretrain.checkpoints.stored import TensorSlice
from tests.pretrain.checkpoints.savers import SHAPES, metadata, names


class Owner:
    """State of a run: two parameters and a moment, all of one value."""

    def __init__(self, value: float = 1.0):
        self.value = value
        self.slices_read = 0

    def state(self, key: str | None) -> Any:
        for name, shape in SHAPES.items():
            self.slices_read += 1
            yield TensorSlice(name, 0, torch.full(shape, self.value))

    def set_state(self, key: str | None, name: str, whole: Any) -> None: ...
    def set_steps(self, steps: int) -> None: ...
    def set_loss_scale(self, state: LossScaleState | None) -> None: ...


def save(output: Path, step: int, tokenizer: Path, owner: Owner | None = None) -> Path:
    writer = CheckpointWriter(output, owner or Owner(), ("exp_avg",), SHAPES, tokenizer, SINGLE_PROCESS)
    return writer.save(metadata(step))


def test_the_newest_are_kept(tmp_path: Path, tokenizer: Path) -> None:
    for step in (9, 10, 99_999_999, 100_000_000):
        retention.prune(tmp_path, 2, save(tmp_path, step, tokenizer))
    assert names(tmp_path) == ["step-100000000", "step-99999999"]
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-100000000"


OTHER_NAMES = [
    "step-best_one",
    "step-00000x07",
    "step-٠٠٠٠٠٠٠٩",
    "step-9",
    "step-000000009",
    "step-99999998.copy",
    "best",
]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_folders_with_other_names_are_not_checkpoints(name: str, tmp_path: Path, tokenizer: Path) -> None:
    shutil.copytree(save(tmp_path, 1, tokenizer), tmp_path / "checkpoints" / name)
    saved = save(tmp_path, 2, tokenizer)
    retention.prune(tmp_path, 1, saved)
    assert names(tmp_path) == sorted(["step-00000002", name])
    assert latest(tmp_path) == saved
    assert record.read(tmp_path / "checkpoints" / name).step == 1


def test_targets_of_links_are_kept(tmp_path: Path, tokenizer: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, tokenizer)
    (tmp_path / "best").symlink_to(tmp_path / "checkpoints" / "step-00000001")
    (tmp_path / "checkpoints" / "step-00000009").symlink_to("step-00000002")
    retention.prune(tmp_path, 1, tmp_path / "checkpoints" / "step-00000003")
    assert names(tmp_path) == ["step-00000001", "step-00000002", "step-00000003", "step-00000009"]
    assert latest(tmp_path) == tmp_path / "checkpoints" / "step-00000003", "a link is not a checkpoint of its own"


def test_files_that_no_save_wrote_are_kept(tmp_path: Path, tokenizer: Path) -> None:
    first = save(tmp_path, 1, tokenizer)
    (first / "notes.txt").write_text("the best one")
    kept = ["step-00000000", "step-00000007.partial", "step-00000008"]
    for name in kept:
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "mine.txt").write_text("mine")
    unfinished = tmp_path / "checkpoints" / "step-00000006.partial"
    unfinished.mkdir()
    (unfinished / "weights-00000-000.safetensors").write_bytes(b"half")
    (unfinished / ".tmpAb12").write_bytes(b"half")
    saved = save(tmp_path, 2, tokenizer)
    retention.prune(tmp_path, 1, saved)
    assert names(tmp_path) == sorted([*kept, "step-00000001", "step-00000002"])
    assert [path.name for path in first.iterdir()] == ["notes.txt"]
    assert latest(tmp_path) == saved


def test_an_existing_folder_is_renamed(tmp_path: Path, tokenizer: Path) -> None:
    existing = tmp_path / "checkpoints" / "step-00000003"
    existing.mkdir(parents=True)
    (existing / "mine.txt").write_text("mine")
    assert record.read(save(tmp_path, 3, tokenizer)).step == 3
    assert (existing.with_name("step-00000003.before-1") / "mine.txt").read_text() == "mine"


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["tokenizer", "first tensors", "last tensors", "record"])
def test_a_full_disk_leaves_older_checkpoints_unchanged(
    place: str, tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, tokenizer)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    written: list[Path] = []

    def fail(*arguments: Any, **facts: Any) -> None:
        raise FULL

    def save_file(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        written.append(path)
        if len(written) == (1 if place == "first tensors" else 2):
            raise FULL

    if place == "tokenizer":
        monkeypatch.setattr(saving.shutil, "copyfile", fail)
    elif place == "record":
        monkeypatch.setattr(saving.records, "write", fail)
    else:
        monkeypatch.setattr(saving, "save_file", save_file)
    owner = Owner()
    with pytest.raises(
        CheckpointError, match=r"No space left on device.*resumes from the previous checkpoint"
    ) as caught:
        save(tmp_path, 2, tokenizer, owner)
    assert re.search(r"which needs 0\.00 MB where [\d,.]+ are free", str(caught.value))
    if "tensors" in place:
        assert owner.slices_read == 4, "reading the state is a collective, so it continues after an error"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["step-00000001"]


def test_an_error_of_another_process_is_raised_and_files_are_removed(tmp_path: Path, tokenizer: Path) -> None:
    gathered = iter([[None, None], [None, CheckpointError("process 1: no space")], [None, None]])
    process = Process(0, 2, lambda own: next(gathered))
    with pytest.raises(CheckpointError, match="process 1: no space"):
        CheckpointWriter(tmp_path, Owner(), (), SHAPES, tokenizer, process).save(metadata(1))
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_not_saved(value: float, tmp_path: Path, tokenizer: Path) -> None:
    save(tmp_path, 1, tokenizer)
    with pytest.raises(TrainingError, match=r"weights of a\.weight are not finite; training has diverged"):
        save(tmp_path, 2, tokenizer, Owner(value))
    assert names(tmp_path) == ["step-00000001"]
