"""What checkpoints cost a training run: in the background, in the foreground, and none, in turn.

    python benchmarks/checkpoint_saving.py --dataset runs/demo/dataset
    python benchmarks/checkpoint_saving.py --dataset runs/demo/dataset --config configs/pretrain/bert_base.toml \
        --set model.positions=128 --set data.global_batch=8 --steps 5

    python benchmarks/checkpoint_saving.py --megabytes 1104

Takes windows of ``--steps`` optimizer steps, in each of which one checkpoint or none is saved after the first step, and
compares the medians of their times. Also says how long a save keeps training from going on. On two cores of a larger
machine: ``taskset -c 0,1``. With ``--megabytes`` nothing is trained: the result is the processor time that a checkpoint
of that size costs one process, which other work on the machine changes less.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from sesame import configs
from sesame.configs.shipped import finders
from sesame.pretrain.checkpoints.host_copy import HostCopy
from sesame.pretrain.checkpoints.load import SINGLE_PROCESS
from sesame.pretrain.checkpoints.record import CheckpointMetadata, LossScaleState
from sesame.pretrain.checkpoints.retention import Retention
from sesame.pretrain.checkpoints.save import CheckpointWriter
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.checkpoints.stored import TensorSlice
from sesame.pretrain.config import RunConfig
from sesame.pretrain.initialization import Rows
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

TENSORS = 46


class Window(NamedTuple):
    """Seconds of some steps."""

    all: float
    blocked: float
    """For which training has waited for the checkpoint."""
    processor: float
    """Processor seconds of all threads."""
    written: float
    """From the beginning of the save until the checkpoint was known to be complete."""


def saver_of(run: Run, folder: Path, *, background: bool) -> Saver:
    """Return a saver for the state of ``run`` in a folder of its own."""
    tokenizer = run.dataset.tokenizer_path
    writer = CheckpointWriter(
        folder,
        run.engine,
        run.kind.moments,
        run.shapes,
        tokenizer,
        SINGLE_PROCESS,
        HostCopy(run.mesh.device) if background else None,
        run.kind.most_moments,
    )
    return Saver(writer, Retention(folder, 1, is_rank_zero=True), None)


def window(run: Run, saver: Saver, steps: int, *, saves: bool) -> Window:
    """Take ``steps`` steps as ``Run.run`` does."""
    run.saver, blocked_before = saver, saver.seconds
    start = saved = time.perf_counter()
    processor = time.process_time()
    written = 0.0
    for number in range(steps):
        run.agreement.ask(is_writing=saver.is_writing)
        metrics = run.train_step()
        run.watch.check(run.step, metrics, run.gradients_again)
        run.metrics.add(metrics, is_skipped=False)
        if not run.agreement.answer().is_writing:
            saver.finish()
        if saves and number == 0:
            saved = time.perf_counter()
            run.save()
        if saves and not written and not saver.is_writing:
            written = time.perf_counter() - saved
    end = time.perf_counter()
    saver.finish()
    processor = time.process_time() - processor
    return Window(end - start, saver.seconds - blocked_before, processor, written or time.perf_counter() - saved)


class State:
    """Parameters and two moments of 256 columns, together of some size."""

    def __init__(self, megabytes: float):
        rows = round(megabytes * 1e6 / 4 / 256 / 3 / TENSORS)
        self.tensors = {f"{number}.weight": torch.randn(rows, 256) for number in range(TENSORS)}

    def state(self, key: str | None) -> Iterable[TensorSlice]:
        return (TensorSlice(name, 0, tensor) for name, tensor in self.tensors.items())

    def set_state(self, key: str | None, name: str, whole: Rows) -> None: ...
    def set_steps(self, steps: int) -> None: ...
    def set_loss_scale(self, state: LossScaleState | None) -> None: ...


def show_cost(megabytes: float, rounds: int, folder: Path) -> None:
    """Print the processor time of copying and of writing a checkpoint."""
    torch.set_num_threads(1)
    state, tokenizer = State(megabytes), folder / "tokenizer"
    tokenizer.write_bytes(b"")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
    copy = HostCopy(torch.device("cpu"))
    writer = CheckpointWriter(folder, state, ("exp_avg", "exp_avg_sq"), shapes, tokenizer, SINGLE_PROCESS, copy)
    copied, written, blocked = [], [], []
    for step in range(1, rounds + 1):
        # The memory of the copy is reserved meanwhile, as when a run starts.
        time.sleep(2.0)
        metadata = CheckpointMetadata(
            step=step, samples=step, seed=1, vocabulary_size=1, tokenizer_sha256="0" * 64, config={"model": {}}
        )
        start, all_threads, this_thread = time.perf_counter(), time.process_time(), time.thread_time()
        writer.start(metadata)
        copied.append(time.thread_time() - this_thread)
        blocked.append(time.perf_counter() - start)
        checkpoint = writer.finish()
        written.append(time.process_time() - all_threads - copied[-1])
        assert checkpoint is not None
        shutil.rmtree(checkpoint)
    print(
        f"{megabytes:,.0f} MB: copy {statistics.median(copied):.3f} s of processor time (first {copied[0]:.3f}), "
        f"blocked {statistics.median(blocked):.3f} s (least {min(blocked):.3f}); write "
        f"{statistics.median(written):.3f} s of processor time"
    )


def show(windows: Mapping[str, list[Window]], megabytes: float, steps: int) -> None:
    """Print medians, and each kind's time over that of no saving in the same round."""
    none = windows["none"]
    step = statistics.median(each.all for each in none) / steps
    print(f"{megabytes:,.0f} MB in a checkpoint, {step * 1e3:,.1f} ms in a step, one save in {steps} steps")
    for kind, rows in windows.items():
        line = f"{kind:10s} {statistics.median(row.all for row in rows):8.3f} s a window"
        if kind != "none":
            wall = _ratios([row.all for row in rows], [row.all for row in none])
            processor = _ratios([row.processor for row in rows], [row.processor for row in none])
            line += f", {wall}; processor time {processor}; blocked "
            line += f"{statistics.median(row.blocked for row in rows) * 1e3:,.1f} ms, first "
            line += f"{rows[0].blocked * 1e3:,.1f} ms; complete after "
            line += f"{statistics.median(row.written for row in rows):.2f} s"
        print(line, flush=True)


def _ratios(values: list[float], others: list[float]) -> str:
    """Return the median difference of the rounds and its quartiles, as text."""
    ratios = [value / other - 1 for value, other in zip(values, others, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{statistics.median(ratios):+.2%} ({quartiles[0]:+.2%} to {quartiles[2]:+.2%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset")
    parser.add_argument("--megabytes", type=float)
    parser.add_argument("--config", type=finders["pretrain"], default="demo")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sesame-", dir=".") as folder:
        if options.megabytes:
            show_cost(options.megabytes, options.rounds, Path(folder))
            return
        overrides = [f"output={folder}/run", f"data.dataset={options.dataset}", "steps=1000000", *options.overrides]
        config = configs.load(options.config, RunConfig, overrides)
        run = Run(config, Mesh(config.parallel))
        savers = {
            "none": saver_of(run, Path(folder) / "none", background=False),
            "background": saver_of(run, Path(folder) / "background", background=True),
            "foreground": saver_of(run, Path(folder) / "foreground", background=False),
        }
        window(run, savers["none"], 5, saves=False)
        windows: dict[str, list[Window]] = {kind: [] for kind in savers}
        for _ in range(options.rounds):
            for kind, saver in savers.items():
                windows[kind].append(window(run, saver, options.steps, saves=kind != "none"))
        numbers = (shape.numel() * (1 + len(run.kind.moments_of(name))) for name, shape in run.shapes.items())
        megabytes = 4 * sum(numbers) / 1e6
        show(windows, megabytes, options.steps)
        run.close()


if __name__ == "__main__":
    main()
