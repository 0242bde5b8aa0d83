"""What a run tells: a progress bar or plain lines, one JSON line for each report, TensorBoard, the loss curve."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import Section
from configs.kinds import Free
from pretrain.objectives import OBJECTIVES


class ReportConfig(Section):
    """How often a run tells how it goes."""

    every_steps: Free[int] = Field(default=10, gt=0)
    """Optimizer steps between reports."""
    validate_every_steps: Free[int] = Field(default=500, gt=0)
    """Optimizer steps between measurements of the validation loss; it is also measured at the last step."""
    validation_rows: Free[int] = Field(default=2048, gt=0)
    """Held-out rows that the validation loss is measured on."""
    tensorboard: Free[bool] = True
    """Write TensorBoard event files beside the JSON lines."""


class Reporter:
    """The voice of the leading process; on every other process a mute with the same methods."""

    def __init__(
        self, output: Path, steps: int, first_step: int, baseline: float | None, config: ReportConfig, mute: bool
    ):
        self.output, self.steps, self.baseline, self.mute = output, steps, baseline, mute
        self.console = Console(quiet=mute, highlight=False)
        self.validation: dict[str, float] = {}
        self.timed = False
        self.begin = self.last = time.perf_counter()
        if mute:
            return
        output.mkdir(parents=True, exist_ok=True)
        self.lines = _rewound(output / "metrics.jsonl", first_step)
        self.board = _board(output, first_step) if config.tensorboard else None
        self.bar = _bar(self.console)
        self.task = self.bar.add_task("", total=steps, completed=first_step, told="")
        self.bar.start()

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def advance(self, step: int, expected: float) -> None:
        """Move the bar to ``step`` steps taken; ``expected`` are those that a limited time allows."""
        if not self.mute:
            self.timed = expected < self.steps
            # Not by ``update``, which would forget how fast the steps were.
            self.bar.tasks[0].total = max(step, round(min(self.steps, expected)))
            self.bar.update(self.task, completed=step)

    def training(self, step: int, losses: Mapping[str, float], facts: Mapping[str, float]) -> None:
        """Report losses since the last report; ``facts`` has tokens, operations, learning_rate, gradient_norm."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        row = {
            "step": step,
            "train": dict(losses),
            "learning_rate": facts["learning_rate"],
            "gradient_norm": facts["gradient_norm"],
            "tokens_per_second": round(facts["tokens"] / seconds, 1),
            "teraflops": round(facts["operations"] / seconds / 1e12, 4),
            "seconds": round(now - self.begin, 3),
        }
        self._write(row)
        told = " ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        self._show(step, f"{told} | {row['tokens_per_second']:,.0f} tokens/s")

    def validated(self, step: int, losses: Mapping[str, float]) -> None:
        """Report validation losses; the picture of the curve is drawn anew."""
        self.validation = dict(losses)
        if self.mute:
            return
        self._write({"step": step, "validation": dict(losses)})
        below = ""
        for name in losses:
            if self.baseline is not None and OBJECTIVES[name].predicts_tokens:
                distance = self.baseline - losses[name]
                side = "below" if distance >= 0 else "above"
                below = f" ({abs(distance):.3f} nats {side} the unigram baseline of {self.baseline:.3f})"
        told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        self.say(f"step {step}: validation {told}{below}")
        # Only the leading process draws, and not before its first step: matplotlib takes half a second to load.
        from pretrain.curve import draw

        draw(self.output / "metrics.jsonl", self.output / "loss.png", self.baseline)
        self.last = time.perf_counter()

    def close(self) -> None:
        if not self.mute:
            self.bar.stop()
            self.lines.close()
            if self.board is not None:
                self.board.close()

    def _show(self, step: int, told: str) -> None:
        if self.mute:
            return
        if self.console.is_terminal:
            self.bar.update(self.task, told=told)
            return
        left, steps = self.bar.tasks[0].time_remaining, self.bar.tasks[0].total
        about = f"~{steps}" if self.timed else str(self.steps)
        self.say(f"step {step}/{about} | {told}" + (f" | {_clock(left)} left" if left is not None else ""))

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.mute:
            return
        self.lines.write(json.dumps(row) + "\n")
        self.lines.flush()
        if self.board is not None:
            for name, value in _flat(row):
                self.board.add_scalar(name, value, row["step"])


def _flat(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    pairs = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            pairs += [(f"{name}/{key}", number) for key, number in value.items()]
        elif name != "step":
            pairs.append((name, value))
    return pairs


def _bar(console: Console) -> Progress:
    told = TextColumn("{task.fields[told]}")
    return Progress(
        MofNCompleteColumn(), BarColumn(), told, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def _rewound(path: Path, step: int) -> Any:
    """Open the JSON lines to append, without what a killed run wrote after the checkpoint that is resumed from, and
    without damaged lines."""
    if path.exists():
        kept = [line + b"\n" for line in path.read_bytes().split(b"\n") if _is_report(line, step)]
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_bytes(b"".join(kept))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path.open("a", encoding="utf-8")


def _is_report(line: bytes, last: int) -> bool:
    """Whether a line is what ``Reporter`` writes, up to the step ``last``."""
    try:
        row = json.loads(line)
        losses = {**row.get("train", {}), **row.get("validation", {})}
        numbers = all(isinstance(loss, float) and name in OBJECTIVES for name, loss in losses.items())
        return type(row["step"]) is int and row["step"] <= last and numbers
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _board(output: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(output / "tensorboard"), purge_step=step + 1)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}" if minutes >= 60 else f"{minutes}:{second:02d}"
