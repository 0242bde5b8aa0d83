"""Processor time of a run's instruments beside that of its steps.

    python benchmarks/instruments_cost.py runs/demo/dataset

Steps of the demo are taken on one thread and their processor time is measured, then as many times as in those steps
all that the instruments do is done alone: phases are measured, time and memory are read and made fields of a report.
Processor time, because it does not depend on what else the machine does.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.reporting.usage import UsageMeter
from sesame.pretrain.step_timer import StepTimer
from sesame.pretrain.train import Run, train

STEPS, REPEATS = 30, 200


def step_seconds(dataset: Path, folder: str) -> float:
    """Median processor time of a step of the demo."""
    overrides = [f"data.dataset={dataset}", f"output={folder}", f"steps={STEPS}", "parallel.threads=1"]
    overrides += [f"report.validate_every_steps={STEPS}", "report.validation_rows=16", "report.tensorboard=false"]
    times: list[float] = []
    take_step = Run.train_step

    def timed_step(run: Run) -> object:
        begin = time.process_time()
        result = take_step(run)
        times.append(time.process_time() - begin)
        return result

    Run.train_step = timed_step  # pyright: ignore[reportAttributeAccessIssue]
    try:
        train(configs.load(Path("configs/pretrain/demo.toml"), RunConfig, overrides))
    finally:
        Run.train_step = take_step
    return median(times[5:])


def seconds_of(work: Callable[[], object]) -> float:
    """Processor time of ``work``, mean of many calls."""
    work()
    begin = time.process_time()
    for _ in range(REPEATS):
        work()
    return (time.process_time() - begin) / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    dataset = parser.parse_args().dataset
    cpu = torch.device("cpu")
    timer = StepTimer(cpu)
    meter = UsageMeter(timer, cpu, 0, 1)

    def phases() -> None:
        for _ in timer.iterate("data", [0]):
            for name in ("forward", "backward", "optimizer"):
                with timer.phase(name):
                    pass

    report = seconds_of(lambda: meter.read(10, 0.0, lambda rows: rows).fields())
    phase = seconds_of(phases)
    with tempfile.TemporaryDirectory() as folder:
        step = step_seconds(dataset, folder)
    total = phase + report / 10
    print(f"step {1e3 * step:.1f} ms; phases of a step {1e6 * phase:.1f} us, a report {1e6 * report:.0f} us")
    print(f"with a report every 10 steps: {1e6 * total:.1f} us a step, {total / step:.3%} of it")


if __name__ == "__main__":
    main()
