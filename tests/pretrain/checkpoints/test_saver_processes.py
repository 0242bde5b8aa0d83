"""Several processes write one checkpoint beside training, and stop together when one of them cannot."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints.load import open_checkpoint
from tests.pretrain.checkpoints.savers import names

Settings = Callable[..., dict[str, Any]]

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
