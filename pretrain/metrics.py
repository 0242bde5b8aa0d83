"""Metrics of a run: sums over steps, a progress bar or log lines, JSON lines, trackers, and the loss curve."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsFloat

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from sesame.configs.durations import duration
from sesame.configs.json_lines import Row, keep_rows, read_rows
from sesame.configs.log_lines import timed
from sesame.configs.storage import append_line
from sesame.pretrain.objectives import OBJECTIVES
from sesame.pretrain.reporting import run_record
from sesame.pretrain.reporting.trackers import Outcome, TrackedRun, Trackers
from sesame.pretrain.reporting.usage import Usage
from sesame.pretrain.stop import UNLIMITED

FILE = "metrics.jsonl"


class StepMetrics(NamedTuple):
    """Metrics of one optimizer step; losses, tokens and FLOPs are those of this process."""

    losses: dict[str, Tensor]
    """By objective, means over the micro-batches."""
    gradient_norm: SupportsFloat
    """Global norm before clipping."""
    tokens: float
    flops: float
    """Floating-point operations."""
    learning_rate: float
    has_overflowed: bool = False
    """Whether it has no update, because a gradient overflowed in fp16."""


class TrainingMetrics(NamedTuple):
    """Metrics of the steps since the last report, over all processes."""

    losses: dict[str, float]
    """By objective, means over the steps."""
    tokens: float
    flops: float
    learning_rate: float
    """Of the last step."""
    gradient_norm: float
    """Of the last step."""


class MetricSums:
    """Sums of this process's metrics over the steps since the last report."""

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}
        self.tokens = self.flops = self.learning_rate = 0.0
        self.gradient_norm: SupportsFloat = 0.0
        self.steps = self.taken = 0
        """With an update, and all."""

    def add(self, step: StepMetrics, *, is_skipped: bool = False) -> None:
        """Add the metrics of a step; of one whose update was skipped only what it cost."""
        self.tokens, self.flops, self.taken = self.tokens + step.tokens, self.flops + step.flops, self.taken + 1
        if is_skipped:
            return
        self.losses = {name: self.losses.get(name, 0.0) + loss for name, loss in step.losses.items()}
        self.learning_rate, self.gradient_norm = step.learning_rate, step.gradient_norm
        self.steps += 1

    def reduce(self, sum_over_data: Callable[[Tensor], Tensor], processes: int) -> TrainingMetrics:
        """Return the metrics of all ``processes``; a collective."""
        sums = {name: sum_over_data(loss.clone()) for name, loss in self.losses.items()}
        losses = {name: float(loss) / self.steps / processes for name, loss in sums.items()}
        device = next(iter(sums.values())).device
        tokens, flops = sum_over_data(torch.tensor([self.tokens, self.flops], device=device)).tolist()
        return TrainingMetrics(losses, tokens, flops, self.learning_rate, float(self.gradient_norm))


class Reporter:
    """Writes the metrics of a run in its first process; in every other process its methods do nothing."""

    def __init__(
        self,
        output: Path,
        steps: int,
        first_step: int,
        baseline: float | None,
        quiet: bool,
        peak_flops: float | None = None,
    ):
        """
        Args:
            first_step: step at which the run starts or resumes.
            baseline: unigram baseline of the validation loss, in nats.
            quiet: true in all processes but the first.
            peak_flops: of all processes' devices together, in a second.
        """
        self.output, self.steps, self.baseline, self.quiet = output, steps, baseline, quiet
        self.first_step, self.peak_flops = first_step, peak_flops
        self.console = Console(quiet=quiet, highlight=False)
        self.is_limited_by_time = False
        self.validated_step: int | None = None
        """Step of the last validation that is reported, in the first process."""
        self.start_time = self.last_report_time = time.perf_counter()
        if quiet:
            return
        output.mkdir(parents=True, exist_ok=True)
        self.file = output / FILE
        self.validated_step = _cut(self.file, first_step)
        self.trackers: Trackers | None = None
        self.bar = _progress_bar(self.console)
        self.left = ""
        total = steps if steps < UNLIMITED else None
        self.task = self.bar.add_task("", total=total, completed=first_step, metrics="", left="")
        self.bar.start()

    def start(self, trackers: Sequence[str], facts: Mapping[str, Any]) -> None:
        """Record that the run starts, and start its trackers.

        Args:
            facts: about the run, as plain JSON; its ``config`` is given to the trackers.
        """
        if not self.quiet:
            baselines = {name: self.baseline for name in facts["config"]["objectives"] if self._has_baseline(name)}
            run_record.write_start(self.output, self.first_step, {**facts, "unigram_baseline": baselines})
            self.trackers = Trackers(trackers, TrackedRun(self.output, self.first_step, facts["config"]), self.log)

    def log(self, message: str) -> None:
        """Print a message; in a log, with the time of day."""
        line = timed(message, is_terminal=self.console.is_terminal)
        self.console.print(line, soft_wrap=True, markup=False)

    def update_progress(self, step: int, expected_steps: float, seconds_left: float) -> None:
        """Move the progress bar to ``step``.

        Args:
            expected_steps: how many a limit of time allows.
            seconds_left: of that limit. A resumed run may be faster or slower than the one before, so its own speed
                says when all steps are taken, but not when the time is over.
        """
        if not self.quiet:
            self.is_limited_by_time = expected_steps < self.steps
            # Setting the total by ``update`` would reset the measured speed.
            self.bar.tasks[0].total = max(step, round(min(self.steps, expected_steps)))
            speed = self.bar.tasks[0].speed if self.steps < UNLIMITED else None
            left = min((self.steps - step) / speed if speed else math.inf, seconds_left)
            self.left = f"{duration(left)} left" if math.isfinite(left) else ""
            self.bar.update(self.task, completed=step, left=self.left)

    def report_training(
        self, step: int, metrics: TrainingMetrics, saving_seconds: float, usage: Usage | None = None
    ) -> None:
        """Report the metrics of the steps since the last report.

        Args:
            saving_seconds: for which training has waited for checkpoints since the start.
            usage: time and memory of the same steps.
        """
        now = time.perf_counter()
        seconds, self.last_report_time = now - self.last_report_time, now
        row = {
            "step": step,
            "train": metrics.losses,
            "learning_rate": metrics.learning_rate,
            "gradient_norm": metrics.gradient_norm,
            "tokens_per_second": round(metrics.tokens / seconds, 1),
            "teraflops": round(metrics.flops / seconds / 1e12, 8),
            "seconds": round(now - self.start_time, 3),
            "saving_seconds": round(saving_seconds, 3),
            "report_seconds": round(seconds, 5),
        }
        text = " ".join(f"{name} {loss:.3f}" for name, loss in metrics.losses.items())
        text += f" | {row['tokens_per_second']:,.0f} tokens/s"
        if self.peak_flops is not None:
            row["model_flops_use"] = round(metrics.flops / seconds / self.peak_flops, 5)
            text += f" | {row['model_flops_use']:.0%} of peak"
        if usage is not None:
            row |= usage.fields()
        self._write(row)
        self._show(step, text)

    def report_layers(self, step: int, layers: Mapping[str, Mapping[str, float | None]]) -> None:
        """Write numbers of each layer, by layer and name; null stands for one that is not finite."""
        self._write({"step": step, "layers": layers})

    def report_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Report validation losses and draw the loss curve again."""
        if self.quiet:
            return
        self._write({"step": step, "validation": dict(losses)})
        self.validated_step = step
        text = ", ".join(f"{name} {loss:.3f}{self._comparison(name, loss)}" for name, loss in losses.items())
        self.log(f"step {step}: validation {text}")
        # Imported here because matplotlib takes half a second to load, and only the first process draws.
        from sesame.pretrain.curve import draw

        draw(self.file, self.output / "loss.png", self.baseline)
        self.last_report_time = time.perf_counter()

    def rewind(self, step: int) -> None:
        """Remove what was reported of steps after ``step``, which will be computed again."""
        if self.quiet:
            return
        self.validated_step = _cut(self.file, step)
        if self.trackers is not None:
            self.trackers.rewind(step)
        self.bar.update(self.task, completed=step)
        self.last_report_time = time.perf_counter()

    def _comparison(self, objective: str, loss: float) -> str:
        """Return the distance from the unigram baseline, for a loss that predicts tokens."""
        if self.baseline is None or not self._has_baseline(objective):
            return ""
        side = "below" if loss <= self.baseline else "above"
        return f" ({abs(self.baseline - loss):.3f} nats {side} the unigram baseline of {self.baseline:.3f})"

    def _has_baseline(self, objective: str) -> bool:
        return self.baseline is not None and OBJECTIVES[objective].predicts_tokens

    def close(self, outcome: Outcome = "finished") -> None:
        """Close the files and the progress bar, and tell the trackers how the run ended."""
        if not self.quiet:
            self.bar.stop()
            if self.trackers is not None:
                self.trackers.close(outcome)

    def _show(self, step: int, text: str) -> None:
        if self.quiet:
            return
        if self.console.is_terminal:
            self.bar.update(self.task, metrics=text)
            return
        total = f"~{self.bar.tasks[0].total}" if self.is_limited_by_time else str(self.steps)
        left = f" | {self.left}" if self.left else ""
        self.log(f"step {step}/{total} | {text}{left}")

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.quiet:
            return
        append_line(self.file, json.dumps(row))
        if self.trackers is not None:
            self.trackers.log(row)


def _progress_bar(console: Console) -> Progress:
    metrics, left = (TextColumn(f"{{task.fields[{name}]}}") for name in ("metrics", "left"))
    columns = (MofNCompleteColumn(), BarColumn(), metrics, left)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _cut(path: Path, step: int) -> int | None:
    """Remove damaged lines and those of steps after ``step``, which a killed run wrote after its last checkpoint.

    Returns:
        The step of the last validation that is left.
    """
    keep_rows(path, lambda row: _is_report(row, step))
    return max((row["step"] for row in read_rows(path) if "validation" in row), default=None)


def _is_report(row: Row, last: int) -> bool:
    """Return whether a row is a report of a step up to ``last``."""
    try:
        losses = {**row.get("train", {}), **row.get("validation", {})}
        are_losses = all(isinstance(loss, float) and name in OBJECTIVES for name, loss in losses.items())
        return type(row["step"]) is int and row["step"] <= last and are_losses
    except (KeyError, TypeError, AttributeError):
        return False
