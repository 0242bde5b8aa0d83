"""Processes that fine-tune together: the order of what they computed, and the scores of one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.share import ALONE, interleaved
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.queue.processes import MeshShare, open_processes

ROOT = Path(__file__).parents[3]
SUITE = """
[suite]
tasks = ["SST-2"]
seeds = [1]
threads = 1

[finetune]
learning_rate = 3e-3
epochs = 2
batch_size = 7
sequence_length = 48
dropout = 0.0
attention_dropout = 0.0
pooling = "mean"
precision = "fp32"
"""


def test_values_are_those_of_the_first_process_of_each_part() -> None:
    """Of four processes, two by two tensor-parallel ones, of which the second has another value."""
    others = {0: (True, "a"), 1: (False, None), 2: (True, "b"), 3: (False, None)}

    def gather_objects(rank: int, value: Any) -> list[Any]:
        return [value if each == rank else others[each] for each in others]

    for rank in others:
        mesh = SimpleNamespace(
            rank=rank, world=4, data_rank=rank // 2, data=2, tensor_rank=rank % 2, tensor=2, is_rank_zero=rank == 0
        )
        mesh.gather_objects = partial(gather_objects, rank)
        share = MeshShare(mesh, LayoutConfig(tensor=2))
        assert share.gather("ab"[share.rank] if rank % 2 == 0 else "other") == ["a", "b"]
        assert (share.rank, share.size, share.processes, share.is_rank_zero) == (rank // 2, 2, 4, rank == 0)
        assert share.description == "4 processes (tensor 2 x data 2, ZeRO 1), each with "


@pytest.mark.parametrize("size", [1, 2, 3])
def test_outputs_of_all_processes_are_in_order(size: int) -> None:
    numbers = list(range(8))
    assert interleaved([numbers[rank::size] for rank in range(size)]) == numbers


def test_one_process_has_all_rows_and_several_have_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configs.parse({"suite": {"tasks": ["RTE"]}, "queue": {"workers": 2}}, EvaluationConfig, "test")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_processes(config) as share:
        assert share is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="use workers for many jobs at a time"), open_processes(config):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["parallel.zero_stage=2", "parallel.tensor=2"])
def test_two_processes_compute_what_one_does(
    setting: str, write_checkpoint: Callable[..., Path], letters: Path, tmp_path: Path
) -> None:
    """Batches of 7 rows are divided into 4 and 3, and the last one of an epoch has 4."""
    checkpoint, suite = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "suite.toml"
    suite.write_text(SUITE)
    found, printed = [], []
    for count in (1, 2):
        output = tmp_path / str(count)
        words = ["evaluate", str(suite), "--checkpoint", str(checkpoint), "--data-dir", str(letters)]
        command = [sys.executable, "-m", "sesame", *words, "--output", str(output), "--processes", str(count)]
        command += ["--set", setting] if count > 1 else []
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        printed.append(run.stdout)
        outputs = {}
        for path in sorted((output / "results").glob("*.npz")):
            with np.load(path, allow_pickle=False) as arrays:
                outputs[path.name] = arrays["set " if ".test" not in path.name else "set SST-2"]
        found.append(outputs)
    assert found[0].keys() == found[1].keys() and len(found[0]) == 3
    for name in found[0]:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=0, atol=2e-4)
    assert printed[1].count("[1/2]") == 1, "one process prints"
    layouts = {"parallel.zero_stage=2": "tensor 1 x data 2, ZeRO 2", "parallel.tensor=2": "tensor 2 x data 1, ZeRO 1"}
    said = f"on 2 processes ({layouts[setting]}), each with the CPU with 1 threads"
    assert said in (tmp_path / "2" / "report.md").read_text()
