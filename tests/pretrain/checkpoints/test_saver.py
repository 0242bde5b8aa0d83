"""A checkpoint that is written while training goes on is the one of its step, whole or not there."""

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sesame import configs
from sesame.configs.errors import CheckpointError, TrainingError
from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.load import SINGLE_PROCESS, latest, open_checkpoint
from sesame.pretrain.checkpoints.record import CheckpointMetadata, LossScaleState
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import CheckpointWriter
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.checkpoints.stored import TensorSlice
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import Run, train

Settings = Callable[..., dict[str, Any]]
SHAPES = {"a.weight": (4, 2), "b.bias": (3,)}


class Owner:
    """State of a run that is changed in place, as an optimizer does."""

    def __init__(self) -> None:
        self.tensors = {name: torch.zeros(shape) for name, shape in SHAPES.items()}

    def state(self, key: str | None) -> Any:
        for name, tensor in self.tensors.items():
            yield TensorSlice(name, 0, tensor)

    def step(self) -> None:
        for tensor in self.tensors.values():
            tensor.add_(1.0)

    def set_state(self, key: str | None, name: str, whole: Any) -> None: ...
    def set_steps(self, steps: int) -> None: ...
    def set_loss_scale(self, state: LossScaleState | None) -> None: ...


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer"
    path.write_bytes(b"pieces")
    return path


def metadata(step: int) -> CheckpointMetadata:
    return CheckpointMetadata(
        step=step, samples=step, seed=1, vocabulary_size=4, tokenizer_sha256="0" * 64, config={"model": {}}
    )


def saver_of(output: Path, tokenizer: Path, owner: Owner, keep: int = 2) -> Saver:
    writer = CheckpointWriter(
        output, owner, ("exp_avg",), SHAPES, tokenizer, SINGLE_PROCESS, HostCopy(torch.device("cpu"))
    )
    return Saver(writer, Retention(output, keep, is_rank_zero=True), None)


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "checkpoints").iterdir())


class Gate:
    """Holds the thread that writes until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.is_open, self.reached = threading.Event(), threading.Event()
        write = saving.save_file

        def held(tensors: Any, path: Path) -> None:
            self.reached.set()
            assert self.is_open.wait(30)
            write(tensors, path)

        monkeypatch.setattr(saving, "save_file", held)


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


CALLS = (
    (saving.shutil, "copyfile"),
    (saving, "save_file"),
    (saving.storage, "digest"),
    (saving.storage, "sync_file"),
    (saving.records, "write"),
    (os, "rename"),
    (os, "replace"),
    (os, "fsync"),
)
"""What a save calls on its way."""


def test_a_kill_at_any_call_leaves_a_complete_checkpoint(tmp_path: Path, tokenizer: Path) -> None:
    output = tmp_path / "run"
    kills = 0
    while True:
        process = os.fork()
        if process == 0:
            _save_twice_and_kill(output, tokenizer, kills)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
        found = latest(output)
        assert found is not None
        step = open_checkpoint(found).record.step
        weights = open_checkpoint(found).tensors("weights")
        assert all((weights.whole(name) == step).all() for name in SHAPES)
    assert os.WEXITSTATUS(status) == 0
    assert kills > 15
    left = names(output)
    assert "step-00000002" in left
    assert not any(name.endswith(".partial") for name in left), "files of the killed saves are removed"


def _save_twice_and_kill(output: Path, tokenizer: Path, calls: int) -> None:
    """Save step 1, then begin step 2 and kill this process before call ``calls`` of its thread."""
    remaining = calls

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal remaining
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            remaining -= 1
            return function(*arguments, **named)

        return call

    owner = Owner()
    saver = saver_of(output, tokenizer, owner, keep=1)
    owner.step()
    if latest(output) is None:
        saver.start(metadata(1))
        saver.finish()
    for module, name in CALLS:
        setattr(module, name, counted(getattr(module, name)))
    owner.step()
    saver.start(metadata(2))
    saver.finish()
    saver.confirm()
    os._exit(0)


PROGRAM = """
import errno, json, sys, time
from sesame import configs
from sesame.configs.errors import SesameError
from sesame.pretrain.checkpoints import save
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train

write = save.save_file

def slow(tensors, path):
    time.sleep(0.3)
    write(tensors, path)

def full(tensors, path):
    if "step-00000004" in str(path) and "-00001-" in path.name:
        raise OSError(errno.ENOSPC, "No space left on device")
    write(tensors, path)

writers = {"write": write, "slow": slow, "full": full}
for writer, settings in json.loads(open(sys.argv[1]).read()):
    save.save_file = writers[writer]
    try:
        train(configs.parse(settings, RunConfig, "the test's run"))
    except SesameError as error:
        print("ERROR", error, flush=True)
"""
LAYOUTS = [
    (2, "bert", {"zero_stage": 1}),
    (2, "bert", {"zero_stage": 2}),
    (2, "bert", {"zero_stage": 3}),
    (2, "bert", {"zero_stage": 1, "tensor": 2}),
    (4, "switch", {"zero_stage": 1, "expert": 2, "tensor": 2}),
]


def run_all(world: Callable[..., list[str]], tmp_path: Path, processes: int, runs: list[Any]) -> list[str]:
    program, arguments = tmp_path / "program.py", tmp_path / "runs.json"
    program.write_text(PROGRAM)
    arguments.write_text(json.dumps(runs))
    return world(processes, program, str(arguments))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "family", "parallel"), LAYOUTS, ids=str)
def test_each_layout_writes_the_same_bytes_as_in_the_foreground(
    processes: int,
    family: str,
    parallel: dict[str, Any],
    family_settings: Settings,
    world: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """Steps and validation follow at once, while the writing is slow."""

    def values(output: str, background: bool) -> dict[str, Any]:
        return family_settings(
            family,
            parallel={"precision": "fp32", "threads": 1, **parallel},
            optimizer={"name": "adamw", "learning_rate": 1e-2},
            report={"validate_every_steps": 2, "validation_rows": 16},
            checkpoint={"save_every_steps": 2, "keep": 9, "background": background},
        ) | {"steps": 7, "output": str(tmp_path / output)}

    run_all(world, tmp_path, processes, [("write", values("before", False)), ("slow", values("beside", True))])
    for step in (2, 4, 6, 7):
        before, beside = (
            record.read(tmp_path / output / "checkpoints" / f"step-{step:08d}") for output in ("before", "beside")
        )
        assert before.files == beside.files and len(before.files) > processes
        open_checkpoint(tmp_path / "beside" / "checkpoints" / f"step-{step:08d}")


def test_a_full_disk_of_one_process_stops_all(
    settings: Settings, world: Callable[..., list[str]], tmp_path: Path
) -> None:
    values = settings(steps=30, checkpoint={"save_every_steps": 2, "keep": 1})
    printed = run_all(world, tmp_path, 2, [("full", values)])
    for output in printed:
        assert output.count("ERROR") == 1 and "step-00000004.partial: cannot write the checkpoint" in output
        assert "No space left on device" in output
    assert names(tmp_path / "run") == ["step-00000002"]
    assert open_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000002").record.step == 2


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
