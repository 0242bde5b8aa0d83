"""Processes that fine-tune together: gradients, the order of outputs, and the scores of one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.share import ALONE, interleaved
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


def test_gradients_are_summed_with_zeros_where_there_are_none() -> None:
    sent: list[Tensor] = []

    def sum_over_data(flat: Tensor) -> Tensor:
        sent.append(flat.clone())
        return flat * 3

    share = MeshShare(SimpleNamespace(rank=1, world=2, sum_over_data=sum_over_data))
    first, second, third = (nn.Parameter(torch.ones(size)) for size in ((2, 2), (3,), (1,)))
    third.requires_grad_(False)
    first.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    share.sum_gradients([first, second, third])
    assert [each.tolist() for each in sent] == [[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0]]
    assert first.grad.tolist() == [[3.0, 6.0], [9.0, 12.0]] and third.grad is None
    assert second.grad is not None and second.grad.tolist() == [0.0] * 3


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
def test_two_processes_compute_what_one_does(
    write_checkpoint: Callable[..., Path], letters: Path, tmp_path: Path
) -> None:
    """Batches of 7 rows are divided into 4 and 3, and the last one of an epoch has 4."""
    checkpoint, suite = write_checkpoint(tmp_path / "checkpoint"), tmp_path / "suite.toml"
    suite.write_text(SUITE)
    found, printed = [], []
    for count in (1, 2):
        output = tmp_path / str(count)
        words = ["evaluate", str(suite), "--checkpoint", str(checkpoint), "--data-dir", str(letters)]
        command = [sys.executable, "-m", "sesame", *words, "--output", str(output), "--processes", str(count)]
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
    assert "on 2 processes, each with the CPU with 1 threads" in (tmp_path / "2" / "report.md").read_text()
