"""Dynamic loss scaling in fp16 (Micikevicius et al. 2018, section 3.2), which DeepSpeed's optimizers do.

The loss is multiplied by the scale before the backward pass, so that small gradients do not become zero. If a gradient
overflows, the update is skipped and the scale halved; after ``WINDOW`` updates in a row it is doubled.
"""

from typing import Any

from sesame.configs.errors import TrainingError
from sesame.pretrain.checkpoints.record import LossScaleState
from sesame.pretrain.device_number import DeviceNumber

INITIAL_POWER = 16
WINDOW = 1000
MOST_SKIPPED = 20
"""Skipped steps in a row that end a run: more than it takes from the first scale to 1."""


def section(enabled: bool) -> dict[str, Any]:
    """Return DeepSpeed's section "fp16"."""
    return {
        "enabled": enabled,
        # 0: dynamic.
        "loss_scale": 0,
        "initial_scale_power": INITIAL_POWER,
        "loss_scale_window": WINDOW,
        "hysteresis": 1,
        "min_loss_scale": 1,
    }


class LossScale:
    """The loss scale of a run, and how many steps were skipped."""

    def __init__(self, wrapper: Any):
        """
        Args:
            wrapper: DeepSpeed's optimizer of ZeRO stage 1 to 3.
        """
        self._wrapper, self._scaler = wrapper, wrapper.loss_scaler
        # It would raise an exception without a sentence for the user.
        self._scaler.raise_error_at_min_scale = False
        self.restore(None)

    @property
    def scale(self) -> float:
        """What the loss is multiplied by."""
        return self._scaler.cur_scale

    @property
    def state(self) -> LossScaleState:
        """What a checkpoint keeps."""
        scaler = self._scaler
        return LossScaleState(
            scale=scaler.cur_scale,
            steps=scaler.cur_iter,
            last_overflow=scaler.last_overflow_iter,
            skipped_updates=self.skipped,
            skipped_in_a_row=self._in_a_row,
            gradient_norm=float(self.last_norm),
        )

    @property
    def has_overflowed(self) -> bool:
        """Whether the last step has no update, because a gradient overflowed."""
        return self._in_a_row > 0

    def restore(self, state: LossScaleState | None) -> None:
        """Continue from a checkpoint; None: from the beginning, as after another precision."""
        if state is None:
            state = LossScaleState(scale=2.0**INITIAL_POWER)
        scaler = self._scaler
        scaler.cur_scale, scaler.cur_iter, scaler.last_overflow_iter = state.scale, state.steps, state.last_overflow
        self.skipped, self._in_a_row = state.skipped_updates, state.skipped_in_a_row
        self._unreported = 0
        self.last_norm = DeviceNumber(state.gradient_norm)
        """Gradient norm of the last step with an update."""

    def step_was_skipped(self) -> bool:
        """Count the step that DeepSpeed has just taken, and return whether it has skipped the update.

        Raises:
            TrainingError: gradients overflow however small the scale is.
        """
        if not self._wrapper.overflow:
            self._in_a_row = 0
            return False
        self.skipped, self._in_a_row, self._unreported = self.skipped + 1, self._in_a_row + 1, self._unreported + 1
        if self._in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"gradients overflowed in fp16 in {MOST_SKIPPED} steps in a row, with a loss scale of "
                f"{self._scaler.cur_scale:g} at last; lower optimizer.learning_rate, or set parallel.precision to "
                "'bf16' or 'fp32'; the same command resumes from the last checkpoint"
            )
        return True

    def message(self) -> str:
        """Return what happened since the last call, empty if no step was skipped."""
        skipped, self._unreported = self._unreported, 0
        if not skipped:
            return ""
        steps = "1 step" if skipped == 1 else f"{skipped} steps"
        return f"{steps} without an update, because gradients overflowed in fp16; loss scale {self._scaler.cur_scale:g}"
