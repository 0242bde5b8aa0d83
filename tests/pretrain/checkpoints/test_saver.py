"""A checkpoint that is written while training goes on is the one of its step, whole or not there."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sesame import configs
from sesame.configs.errors import CheckpointError, TrainingError
from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.load import SINGLE_PROCESS, latest
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import Run, train
from tests.pretrain.checkpoints.savers import Gate, Owner, metadata, names, saver_of

Settings = Callable[..., dict[str, Any]]


def test_training_goes_on_and_does_not_change_what_is_written(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, gate = Owner(), Gate(monkeypatch)
    saver = saver_of(tmp_path, tokenizer, owner)
    owner.step()
    saver.start(metadata(1))
    assert gate.reached.wait(30) and saver.is_writing
    owner.step()
    assert latest(tmp_path) is None and saver.last is None
    gate.is_open.set()
    saver.finish()
    assert saver.last == latest(tmp_path) and not saver.is_writing
    for kind in ("weights", "exp_avg"):
        for value in load_file(tmp_path / "checkpoints" / "step-00000001" / f"{kind}-00000-000.safetensors").values():
            assert (value == 1).all()


def test_the_next_save_waits_for_the_one_before(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, gate = Owner(), Gate(monkeypatch)
    saver = saver_of(tmp_path, tokenizer, owner)
    saver.start(metadata(1))
    assert gate.reached.wait(30)
    owner.step()
    threading.Timer(0.3, gate.is_open.set).start()
    saver.start(metadata(2))
    assert saver.last == tmp_path / "checkpoints" / "step-00000001"
    assert saver.seconds >= 0.2, "training has waited"
    saver.finish()
    for step in (1, 2):
        weights = load_file(tmp_path / "checkpoints" / f"step-{step:08d}" / "weights-00000-000.safetensors")
        assert all((value == step - 1).all() for value in weights.values())


def test_older_checkpoints_are_removed_when_the_newest_is_complete_and_confirmed(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = saver_of(tmp_path, tokenizer, Owner(), keep=1)
    saver.start(metadata(1))
    saver.finish()
    gate = Gate(monkeypatch)
    saver.start(metadata(2))
    assert gate.reached.wait(30)
    saver.confirm()
    assert names(tmp_path) == ["step-00000001", "step-00000002.partial"], "the newest is not complete"
    gate.is_open.set()
    saver.finish()
    assert names(tmp_path) == ["step-00000002"]
    saver.start(metadata(3))
    saver.finish()
    assert names(tmp_path) == ["step-00000002", "step-00000003"], "the newest is not confirmed"
    saver.confirm()
    assert names(tmp_path) == ["step-00000003"]


def test_a_checkpoint_that_training_diverges_from_is_renamed_when_it_is_complete(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = saver_of(tmp_path, tokenizer, Owner())
    saver.start(metadata(1))
    saver.confirm()
    assert saver.diverged() == "", "the steps since were right, so later ones are to blame"
    gate = Gate(monkeypatch)
    saver.start(metadata(2))
    threading.Timer(0.1, gate.is_open.set).start()
    assert saver.diverged().endswith("step-00000002.diverged-1")
    assert names(tmp_path) == ["step-00000001", "step-00000002.diverged-1"]


@pytest.mark.parametrize("saved", [1, 2])
def test_a_run_that_goes_back_again_and_again_renames_the_newest_checkpoint_once(
    saved: int, tmp_path: Path, tokenizer: Path
) -> None:
    """The one before was confirmed, so it stays, also when the next step fails again."""
    saver = saver_of(tmp_path, tokenizer, Owner())
    for step in range(1, saved + 1):
        saver.start(metadata(step))
        saver.finish()
    opened = [saver.reopen(SINGLE_PROCESS) for _ in range(4)]
    steps = [checkpoint and checkpoint.record.step for checkpoint in opened]
    assert steps == [saved, *[saved - 1 or None] * 3]
    assert names(tmp_path) == [*(["step-00000001"] * (saved - 1)), f"step-{saved:08d}.diverged-1"]


def test_a_resumed_run_does_not_trust_its_checkpoint_before_it_has_trained(tmp_path: Path, tokenizer: Path) -> None:
    """The run that wrote it may have been stopped right after."""
    before = saver_of(tmp_path, tokenizer, Owner())
    for step in (1, 2):
        before.start(metadata(step))
        before.finish()
    newest = before.last
    resumed = saver_of(tmp_path, tokenizer, Owner(), resumed=newest)
    assert resumed.diverged().endswith("step-00000002.diverged-1")
    assert names(tmp_path) == ["step-00000001", "step-00000002.diverged-1"]
    again = saver_of(tmp_path, tokenizer, Owner(), resumed=tmp_path / "checkpoints" / "step-00000001")
    again.confirm()
    assert again.diverged() == ""


def test_the_message_of_a_run_that_cannot_go_back_names_what_was_renamed(tmp_path: Path, tokenizer: Path) -> None:
    saver = saver_of(tmp_path, tokenizer, Owner())
    saver.start(metadata(1))
    saver.reopen(SINGLE_PROCESS)
    assert saver.reopen(SINGLE_PROCESS) is None
    assert saver.diverged().endswith("step-00000001.diverged-1")
    saver.confirm()
    assert saver.diverged() == "", "training has gone on since"


def test_an_error_is_raised_where_the_checkpoint_is_waited_for(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner()
    saver = saver_of(tmp_path, tokenizer, owner)
    saver.start(metadata(1))
    saver.finish()

    def fail(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_file", fail)
        saver.start(metadata(2))
        with pytest.raises(CheckpointError, match=r"No space left on device.*resumes from the previous checkpoint"):
            saver.finish()
    owner.tensors["b.bias"][1] = float("nan")
    saver.start(metadata(3))
    with pytest.raises(TrainingError, match=r"weights of b\.bias are not finite"):
        saver.start(metadata(4))
    assert saver.diverged() == ""
    assert names(tmp_path) == ["step-00000001"]


def test_a_defect_in_the_thread_ends_the_run_at_the_next_step(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when all processes agree: the others wait for this one's thread."""
    monkeypatch.setattr(saving, "save_file", lambda *_: 1 / 0)
    saver = saver_of(tmp_path, tokenizer, Owner())
    saver.start(metadata(1))
    saver.close()
    with pytest.raises(ZeroDivisionError):
        _ = saver.is_writing


def test_too_little_memory_for_the_copy_is_a_sentence(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", fail)
    saver = saver_of(tmp_path, tokenizer, Owner())
    with pytest.raises(CheckpointError, match=r"can't allocate memory.*checkpoint\.background=false"):
        saver.start(metadata(1))


def test_memory_is_used_again() -> None:
    copy = HostCopy(torch.device("cpu"))
    copy.reserve(10)
    first, second = torch.arange(6.0).view(2, 3), torch.arange(4.0)
    addresses = []
    for _ in range(2):
        copy.start()
        copied = copy.of({"a": first, "b": second, "more than reserved": first})
        assert torch.equal(copied["a"], first) and torch.equal(copied["b"], second)
        assert torch.equal(copied["more than reserved"], first)
        addresses.append([tensor.data_ptr() for tensor in copied.values()])
    assert addresses[0] == addresses[1] and len(set(addresses[0])) == 3


def test_a_run_ends_when_its_last_checkpoint_is_complete(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, steps = Gate(monkeypatch), []
    take_step = Run.train_step

    def step(self: Run) -> Any:
        steps.append(self.saver.is_writing)
        if len(steps) == 4:
            gate.is_open.set()
        return take_step(self)

    monkeypatch.setattr(Run, "train_step", step)
    values = settings(steps=6, checkpoint={"save_every_steps": 2, "keep": 9})
    assert train(configs.parse(values, RunConfig, "run.toml")).name == "step-00000006"
    assert steps[2:4] == [True, True], "two steps were taken while the first checkpoint was written"
    assert names(Path(values["output"])) == [f"step-{number:08d}" for number in (2, 4, 6)]
