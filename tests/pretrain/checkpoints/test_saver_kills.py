"""A process that is killed while it saves leaves a complete checkpoint."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sesame.pretrain.checkpoints import save as saving
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from tests.pretrain.checkpoints.savers import SHAPES, Owner, metadata, names, saver_of

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
