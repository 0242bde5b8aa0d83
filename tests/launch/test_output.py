"""What a run prints into a log: every line of two processes has one of the expected shapes, and comes once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sesame.launch.processes import free_port
from tests.launch.conftest import TINY_BERT
from tests.launch.test_pretraining import LAUNCHERS

ROOT = Path(__file__).parents[2]
RUN = """
output = "run"
steps = 2
[data]
dataset = '{dataset}'
global_batch = 4
[objectives]
masked_lm = 1.0
sentence_pairs = 1.0
[optimizer]
name = "adamw"
learning_rate = 1e-3
[report]
every_steps = 1
validate_every_steps = 2
validation_rows = 8
[checkpoint]
save_every_steps = 1
[watch]
slow_factor = 1e9  # Of two processes on a busy machine, one is slow.
"""
TIME, LOSSES = r"\d\d:\d\d:\d\d ", r"masked_lm \d+\.\d{3}"
STEP = LOSSES + r" sentence_pairs \d\.\d{3} \| [\d,]+ tokens/s( \| \d+:\d\d left)?"
SHAPES = (
    TIME + r"bert with [\d,]+ parameters on 2 x cpu \(tensor \d x data \d, ZeRO \d\) in \w+ \(.*\); [\d,]+ training "
    r"rows; 2 steps",
    TIME + r"step 1/2 \| " + STEP,
    TIME + r"step 2/2 \| " + STEP,
    TIME + rf"step 2: validation {LOSSES} \([\d.]+ nats above the unigram baseline of [\d.]+\), sentence_pairs .*",
    r"checkpoint: run/checkpoints/step-00000002",
)
LAUNCH = ("-m", "sesame", "pretrain", "run.toml", "--processes", "2")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()))
SCRIPT = (str(ROOT / "launch" / "pretrain.sh"), "--config", "run.toml")
LAYOUTS = {
    "ZeRO 3 and loader processes": ("parallel.zero_stage=3", "data.loader_processes=1"),
    "tensor parallelism": ("parallel.tensor=2",),
}
"""Those for which libraries warn, each for its own reasons."""


def pretrain(folder: Path, dataset: Path, words: tuple[str, ...], changes: tuple[str, ...]) -> list[str]:
    """The lines that a run prints, of all of its processes, on standard output and standard error."""
    (folder / "run.toml").write_text(RUN.format(dataset=dataset) + TINY_BERT)
    keep = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    keep |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    keep.pop("PYTHONWARNINGS", None)
    command = [sys.executable, *words, *(word for change in changes for word in ("--set", change))]
    done = subprocess.run(
        command, cwd=folder, env=keep, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (LAUNCH, "ZeRO 3 and loader processes"),
        ((*TORCHRUN, *SCRIPT), "tensor parallelism"),
    ],
    ids=["launcher", "torchrun"],
)
def test_two_processes_print_the_lines_of_one(
    tmp_path: Path, dataset: Path, words: tuple[str, ...], layout: str
) -> None:
    lines = pretrain(tmp_path, dataset, words, LAYOUTS[layout])
    assert len(lines) == len(SHAPES), lines
    for line, shape in zip(lines, SHAPES, strict=True):
        assert re.fullmatch(shape, line), f"{line!r} is not {shape!r}"
