"""Memory that initializing, saving and restoring weights take beside that of the run itself, per process.

    python benchmarks/checkpoint_memory.py --experts 32 --width 1024 --feed-forward-width 4096 --processes 2

A Switch Transformer with one sparse layer in each stack, its experts over all processes, starts, is saved and resumed
in the same layout, on a dataset with sentinels, such as that of `sesame prepare configs/corpus/small_spans.toml`. The
result is the peak of the resident set during an operation minus the resident set before it, as Linux reports them.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sesame import configs
from sesame.pretrain import start as starting
from sesame.pretrain import train
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh

GIGABYTE = 1e9


def resident(field: str) -> float:
    """Return gigabytes: VmRSS is the resident set, VmHWM its peak since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / GIGABYTE


def measured(function: Callable[..., Any], peaks: dict[str, float]) -> Callable[..., Any]:
    """Return ``function``, which adds to ``peaks`` the gigabytes that it needs temporarily."""

    def call(*arguments: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        result = function(*arguments)
        peaks[function.__name__] = resident("VmHWM") - before
        return result

    return call


def measure(settings: dict[str, Any], steps: int) -> None:
    """Run one process up to ``steps`` and save a checkpoint; the first process prints the result."""
    config = configs.parse(settings, RunConfig, "the benchmark's run")
    mesh = Mesh(config.parallel)
    peaks: dict[str, float] = {}
    for module, function in ((starting, starting.initialize), (train, train.restore)):
        setattr(module, function.__name__, measured(function, peaks))
    run = train.Run(config, mesh)
    resident_set = resident("VmRSS")
    while run.step < steps:
        run.train_step()

    def save() -> None:
        run.save()
        run.saver.finish()

    measured(save, peaks)()
    run.close()
    if mesh.is_rank_zero:
        largest = max(shape.numel() for shape in run.shapes.values()) * 4 / GIGABYTE
        needed = ", ".join(f"{name} {peak:.2f} GB" for name, peak in peaks.items())
        print(
            f"RESULT {needed}, beside a resident set of {resident_set:.2f} GB; the largest tensor has {largest:.2f} GB "
            "in fp32",
            flush=True,
        )
    mesh.barrier()


def start(settings: dict[str, Any], steps: int, processes: int) -> None:
    port = str(random.randint(20000, 60000))
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    command = [sys.executable, __file__, "--worker", json.dumps([settings, steps])]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **rendezvous, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        for process in started:
            output = process.communicate()[0]
            if process.returncode:
                raise SystemExit(output[-2000:])
            for line in output.splitlines():
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
    options = parser.parse_args()
    if options.worker:
        measure(*json.loads(options.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output": f"{folder}/run",
            "steps": 2,
            "data": {"dataset": options.dataset, "global_batch": 8},
            "model": {
                "family": "switch",
                "layers": 1,
                "decoder_layers": 1,
                "sparse_every": 1,
                "width": options.width,
                "heads": options.width // 64,
                "head_width": 64,
                "feed_forward_width": options.feed_forward_width,
                "experts": options.experts,
            },
            "objectives": {"span_corruption": 1.0, "expert_balance": 0.01},
            "optimizer": {"name": "sgd", "learning_rate": 1e-3},
            "parallel": {"expert": options.processes, "zero_stage": 1, "precision": "bf16"},
            "report": {"tensorboard": False},
        }
        for steps in (1, 2):
            start(settings, steps, options.processes)


if __name__ == "__main__":
    main()
