"""How much memory do drawing, saving and reading weights take on top of what a run holds anyway? Per process.

    python benchmarks/checkpoint_memory.py --experts 32 --width 1024 --feed-forward-width 4096 --processes 2

A Switch Transformer of one sparse layer in each stack, its experts over all processes, starts, is saved and goes on in
the same layout, on a dataset with sentinels, as `sesame prepare configs/corpus/small_spans.toml` makes one. What counts
is the largest resident set during a part of the work less the one before it, from the kernel's own record (Linux).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import configs
from pretrain.config import RunConfig
from pretrain.parallel.mesh import Mesh
from pretrain.train import Run

GIGABYTE = 1e9


def resident(field: str) -> float:
    """Gigabytes: VmRSS is the resident set, VmHWM its peak since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / GIGABYTE


def extra(work: Callable[[], Any]) -> tuple[float, Any]:
    """(gigabytes that ``work`` takes for a while, what it returns)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = work()
    return resident("VmHWM") - before, result


class Watched(Run):
    """A run that notes what its beginning took."""

    def _begin(self) -> int:
        self.took, step = extra(super()._begin)
        return step

    def _restore(self, *found: Any) -> int:
        self.took, step = extra(partial(super()._restore, *found))
        return step


def work(settings: dict[str, Any], steps: int) -> None:
    """One process: a run up to ``steps``, then a checkpoint; the leader prints what it took."""
    config = configs.parse(settings, RunConfig, "the benchmark's run")
    mesh = Mesh(config.parallel)
    run = Watched(config, mesh)
    held = resident("VmRSS")
    while run.step < steps:
        run.train_step()
    saved, _ = extra(run.save)
    run.close()
    if mesh.is_rank_zero:
        whole = max(shape.numel() for shape in run.shapes.values()) * 4 / GIGABYTE
        print(
            f"RESULT {'drawing' if steps == 1 else 'reading'} took {run.took:.2f} GB on top of {held:.2f} held, "
            f"saving {saved:.2f}; the largest tensor has {whole:.2f} GB in fp32",
            flush=True,
        )
    mesh.barrier()


def start(settings: dict[str, Any], steps: int, processes: int) -> None:
    port = str(random.randint(20000, 60000))
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    command = [sys.executable, __file__, "--worker", json.dumps([settings, steps])]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        for process in started:
            told = process.communicate()[0]
            if process.returncode:
                raise SystemExit(told[-2000:])
            for line in told.splitlines():
                if line.startswith("RESULT"):
                    print(line.removeprefix("RESULT "), flush=True)
    finally:
        for process in started:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="runs/small/spans/dataset")
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--feed-forward-width", type=int, default=4096)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(*json.loads(asked.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output": f"{folder}/run",
            "steps": 2,
            "data": {"dataset": asked.dataset, "global_batch": 8},
            "model": {
                "family": "switch",
                "layers": 1,
                "decoder_layers": 1,
                "sparse_every": 1,
                "width": asked.width,
                "heads": asked.width // 64,
                "head_width": 64,
                "feed_forward_width": asked.feed_forward_width,
                "experts": asked.experts,
            },
            "objectives": {"span_corruption": 1.0, "expert_balance": 0.01},
            "optimizer": {"name": "sgd", "learning_rate": 1e-3},
            "parallel": {"expert": asked.processes, "zero_stage": 1, "precision": "bf16"},
            "report": {"tensorboard": False},
        }
        for steps in (1, 2):
            start(settings, steps, asked.processes)


if __name__ == "__main__":
    main()
