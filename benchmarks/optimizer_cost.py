"""Processor time of an optimizer's update beside that of the whole step: Muon against AdamW, in turn in one process.

    python benchmarks/optimizer_cost.py --dataset runs/demo/dataset --steps 20 --rounds 3

Prints medians over rounds for each optimizer: seconds of the update and of the step in one process.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

WARMUP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/pretrain/demo.toml"))
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "muon"])
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for name in options.optimizers:
            with tempfile.TemporaryDirectory() as folder:
                given = (f"optimizer.name={name}", f"data.dataset={options.dataset}", "report.tensorboard=false")
                config = configs.load(options.config, RunConfig, [*given, f"output={folder}", *options.overrides])
                seconds[name].append(measure(config, options.steps))
    table = Table("optimizer", "update", "step", "share")
    for name, rounds in seconds.items():
        update, step = (statistics.median(column) for column in zip(*rounds, strict=True))
        table.add_row(name, f"{1000 * update:.1f} ms", f"{1000 * step:.1f} ms", f"{update / step:.0%}")
    Console().print(table)


def measure(config: RunConfig, steps: int) -> tuple[float, float]:
    """Return the mean processor time of an update and of a whole step."""
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    updates: list[float] = []
    engine_step = run.engine.step

    def timed_update(*arguments):  # type: ignore[no-untyped-def]
        begin = time.process_time()
        result = engine_step(*arguments)
        updates.append(time.process_time() - begin)
        return result

    run.engine.step = timed_update  # type: ignore[method-assign]
    for _ in range(WARMUP):
        run.train_step()
    updates.clear()
    begin = time.process_time()
    for _ in range(steps):
        run.train_step()
    total = time.process_time() - begin
    run.close()
    mesh.close()
    return sum(updates) / steps, total / steps


if __name__ == "__main__":
    main()
