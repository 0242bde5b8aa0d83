"""What watching costs: processor time of a step with and without it, in turn, in one process.

    python benchmarks/watch_cost.py DATASET [--steps 40] [--width 256]

Each row of the table is a part of [watch] that is on in every second step: what runs in each step at the defaults,
measuring all layers, deterministic kernels.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run


def config(dataset: str, width: int, output: str) -> RunConfig:
    """Return a BERT of four layers in the precision of the device."""
    values = {
        "output": output,
        "steps": 10**6,
        "data": {"dataset": dataset, "global_batch": 32, "micro_batch": 16, "verify": False},
        "model": {"family": "bert", "layers": 4, "width": width, "heads": 4, "feed_forward_width": 4 * width},
        "objectives": {"masked_lm": 1.0},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "gradient_clipping": 1.0},
        "parallel": {"threads": 1},
        "report": {"tensorboard": False},
    }
    return configs.parse(values, RunConfig, "the benchmark's run")


def watch_nothing(run: Run) -> Callable[[bool], None]:
    """Return a switch of what runs in each step at the defaults."""
    parts = {name: getattr(run.watch, name) for name in ("add", "judge", "check")}

    def switch(on: bool) -> None:
        for name, part in parts.items():
            setattr(run.watch, name, part if on else lambda *_: None)

    return switch


def measure_layers(run: Run) -> Callable[[bool], None]:
    """Return a switch of ``layers_every_steps`` between 0 and 1."""
    return lambda on: setattr(run.layers, "_every_steps", int(on))


def deterministic(run: Run) -> Callable[[bool], None]:
    """Return a switch of deterministic kernels."""
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = False
    return lambda on: torch.use_deterministic_algorithms(on)


PARTS: dict[str, Callable[[Run], Callable[[bool], None]]] = {
    "each step": watch_nothing,
    "layers": measure_layers,
    "deterministic": deterministic,
}


def seconds(run: Run) -> float:
    """Return the processor time of one step."""
    before = time.process_time()
    metrics = run.train_step()
    run.watch.check(run.step, metrics, run.gradients_again)
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--width", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        resolved = config(os.path.abspath(arguments.dataset), arguments.width, output)
        mesh = Mesh(resolved.parallel)
        run = Run(resolved, mesh)
        for _ in range(4):
            seconds(run)
        for name, part in PARTS.items():
            switch, times = part(run), {True: [], False: []}
            for number in range(2 * arguments.steps):
                switch(number % 2 == 0)
                times[number % 2 == 0].append(seconds(run))
            switch(name == "each step")
            on, off = (statistics.median(times[key]) for key in (True, False))
            print(f"{name:<14} {off:.4f} s without, {on:.4f} s with: {on / off - 1:+.1%}", flush=True)
        run.close()
        mesh.close()


if __name__ == "__main__":
    main()
