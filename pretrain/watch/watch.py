"""Look at every step of a run, and report, skip, stop or roll back as ``[watch]`` says."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, SupportsFloat

from torch import Tensor

from sesame.configs.errors import TrainingError
from sesame.pretrain.checkpoints.load import Checkpoint
from sesame.pretrain.checkpoints.record import Record, Watched
from sesame.pretrain.checkpoints.resume import ResumeState
from sesame.pretrain.checkpoints.save import DIVERGED
from sesame.pretrain.checkpoints.saver import Saver
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.skipped import Samples, Skipped
from sesame.pretrain.data.stages import AnyBatches
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.metrics import StepMetrics
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.parallel.update_gate import Accepts
from sesame.pretrain.watch.events import Action, Event, EventLog, skipped_samples
from sesame.pretrain.watch.findings import Finding, Watcher
from sesame.pretrain.watch.losses import StepLosses
from sesame.pretrain.watch.place import Gradients, Place, place_of
from sesame.pretrain.watch.slow_ranks import SlowRanks
from sesame.pretrain.watch.step_values import StepFile, StepValues

Locate = Callable[[int], Gradients | None]
"""Computes the gradients of a step (from 1) again; None if its update was applied, so that its weights are gone."""


class Pending(NamedTuple):
    """A step whose numbers the device may still be computing."""

    step: int
    losses: DeviceNumber
    weights: Mapping[str, float]
    """Of the objectives in the losses."""
    metrics: StepMetrics


class Watch:
    """What a run has seen of its numbers, and what it does about them; every process of the run has one."""

    def __init__(
        self,
        config: RunConfig,
        record: Record | None,
        state: ResumeState,
        batches: AnyBatches,
        mesh: Mesh,
        saver: Saver,
        log: Callable[[str], None],
    ):
        """
        Args:
            record: of the checkpoint that the run resumes from.
            log: prints a message, in the first process.
        """
        self.config, self.batches, self.mesh, self.saver, self.log = config.watch, batches, mesh, saver, log
        self.losses = StepLosses(mesh)
        # Older checkpoints do not say: their losses had the weights of [objectives], but with a token budget they were
        # divided by the number of micro-batches.
        self._weights_before = {} if config.data.micro_tokens else config.objectives
        self.first_sample = state.dataset_first_sample
        output = config.output
        step = record.step if record else 0
        known = mesh.gather_objects(skipped_samples(output, step) if mesh.is_rank_zero else None)[0]
        self.events = EventLog(output, is_rank_zero=mesh.is_rank_zero)
        self.steps = StepFile(output, is_rank_zero=mesh.is_rank_zero)
        self.skipped: list[Samples] = known
        self.found: Found | None = None
        """What the run must go back from."""
        self._step_losses = DeviceNumber(0.0)
        self._waits = True
        """Whether each step waits for its numbers, so that they are known when it is checked."""
        self._pending: list[Pending] = []
        self.resume(record)

    def resume(self, record: Record | None) -> None:
        """Continue from a checkpoint: what was seen after it is forgotten."""
        watched = record.watched if record else Watched()
        self._pending, self.found, self._skips = [], None, 0
        self.skipped_updates = watched.skipped_updates
        self.skipped = sorted({*self.skipped, *(Samples(*each) for each in watched.skipped_samples)})
        self.watcher = Watcher(self.config)
        for losses, norms in zip(watched.losses, watched.gradient_norms, strict=True):
            self.watcher.add(losses, norms)
        self.watcher.weights = watched.weights or self._weights_before
        self.slow_ranks = SlowRanks(self.config.slow_factor)
        step = record.step if record else 0
        self.steps.rewind(step)
        self.events.rewind(step)
        self.batches.skipped = Skipped.of_run(self.skipped, self.first_sample)

    @property
    def is_skipped(self) -> bool:
        """Whether the update of the last step was skipped."""
        return self._skips > 0

    @property
    def watched(self) -> Watched:
        """What a checkpoint records."""
        windows = self.watcher.losses.values, self.watcher.gradient_norms.values
        return Watched(
            skipped_samples=tuple((first, last) for first, last in self.skipped),
            skipped_updates=self.skipped_updates,
            losses=windows[0],
            gradient_norms=windows[1],
            weights=dict(self.watcher.weights),
        )

    def add(self, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        """Add the losses of a micro-batch of this process, and the weights of the objectives in this step."""
        self.losses.add(losses, weights)

    def judge(self) -> Accepts | None:
        """Return who decides about the update of the step whose losses were added; a collective.

        None where nobody does: on a GPU the norm is known too late, unless ``skip`` makes every step wait for it.
        """
        self._step_losses = self.losses.collect(self.batches.accumulation)
        self._waits = not self._step_losses.is_late or "skip" in (self.config.non_finite, self.config.spike)
        return self._accepts if self._waits else None

    def _accepts(self, norm: DeviceNumber) -> bool:
        self.watcher.set_weights(self.losses.weights)
        finding = self.watcher.find(self._step_losses.tensor().double().numpy(), _finite_norm(norm))
        return finding is None or finding.action(self.config) == "report"

    def check(self, step: int, metrics: StepMetrics, locate: Locate) -> bool:
        """Look at the numbers of a step, or of the one before it if the device is still computing these.

        Args:
            step: from 1.
            locate: called for a step whose update was refused because of its gradients.

        Returns:
            Whether the run must go back.

        Raises:
            TrainingError: the run must stop.
        """
        self._pending.append(Pending(step, self._step_losses, self.losses.weights, metrics))
        # What was decided about a step must be counted before the next one is compared with those before it.
        return self._check(locate, all_but=0 if self._waits else 1)

    def finish(self, locate: Locate) -> bool:
        """Look at all steps, before they are reported or saved; see :meth:`check`."""
        must_go_back = self._check(locate)
        if not must_go_back:
            self.steps.write()
        return must_go_back

    def _check(self, locate: Locate, all_but: int = 0) -> bool:
        while len(self._pending) > all_but and not self.found:
            step, step_losses, weights, metrics = self._pending.pop(0)
            losses, norm = step_losses.tensor().double().numpy(), _finite_norm(metrics.gradient_norm)
            self.watcher.set_weights(weights)
            finding = self.watcher.find(losses, norm)
            self.steps.add(StepValues(step, float(losses.mean()), norm, metrics.learning_rate))
            action = finding.action(self.config) if finding else None
            if finding is not None and action is not None:
                # The weights are those of the step only if nothing was computed after it.
                gradients = locate(step) if finding.is_gradient and action != "report" and not self._pending else None
                place = place_of(finding, step, self.batches, self.mesh.tensor, gradients)
                # An overflow in fp16 is counted as such.
                self.skipped_updates += action == "skip" and not metrics.has_overflowed
                ACTIONS[action](self, Found(step, finding, place))
            if action in (None, "report"):
                self.watcher.add(float(losses.mean()), norm)
                self._skips = 0
                # These gradients are those of the newest checkpoint's weights, or of later ones.
                self.saver.confirm()
        return self.found is not None

    def report(self, found: "Found") -> None:
        """Write an event and go on."""
        self._write(found, "report", "")

    def skip(self, found: "Found") -> None:
        """Go on after a step whose update was refused, if there were not too many in a row."""
        self._skips += 1
        if self._skips > self.config.most_skips:
            self.stop(found, f"; these were more than watch.most_skips {self.config.most_skips} in a row")
        self._write(found, "skip", "; the update is skipped")

    def roll_back(self, found: "Found") -> None:
        """Let the run go back."""
        if len(self.skipped) >= self.config.most_roll_backs:
            self.stop(found, f"; it has rolled back watch.most_roll_backs {self.config.most_roll_backs} times")
        self.found = found

    def stop(self, found: "Found", reason: str = "") -> NoReturn:
        """Stop before unusable weights are saved.

        Raises:
            TrainingError: always.
        """
        self._write(found, "stop", reason, quiet=True)
        self.steps.write()
        raise TrainingError(f"{found.message}{reason}; {DIVERGED}{self.saver.diverged()}")

    def go_back(self, checkpoint: Checkpoint | None) -> Checkpoint:
        """Forget what was seen since ``checkpoint``, and skip the samples of the step that was found.

        Raises:
            TrainingError: there is no checkpoint.
        """
        assert self.found is not None
        if checkpoint is None:
            self.stop(self.found, "; there is no checkpoint to go back to")
        pieces = self.batches.samples(self.found.step - 1)
        samples = Samples(pieces[0].first + self.first_sample, pieces[-1].last + self.first_sample)
        reason = (
            f"; the run goes back to step {checkpoint.record.step} and skips samples {samples.first} to "
            f"{samples.last - 1}{self.saver.renamed}"
        )
        self._write(self.found, "roll_back", reason, samples=samples, checkpoint_step=checkpoint.record.step)
        self.skipped.append(samples)
        self.resume(checkpoint.record)
        return checkpoint

    def _write(self, found: "Found", action: Action, reason: str, *, quiet: bool = False, **values: Any) -> None:
        finding, place = found.finding, found.place
        message = found.message + reason
        if not quiet:
            self.log(message)
        self.events.write(
            Event(found.step, finding.kind, action, message, finding.value, place.rank, place.rows, **values)
        )

    def compare_times(self, step: int, seconds: Sequence[float]) -> None:
        """Report a process that has become slow; ``seconds`` are of work in a step, by rank."""
        if event := self.slow_ranks.compare(step, seconds):
            self.log(event.message)
            self.events.write(event)

    def require_finite(self, values: Mapping[str, float], step: int) -> None:
        """Stop before unusable weights are saved; all processes have the same ``values``."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"step {step}: {name} is {value}; {DIVERGED}{self.saver.diverged()}")


class Found(NamedTuple):
    """What is wrong with which step, and where."""

    step: int
    """From 1."""
    finding: Finding
    place: Place

    @property
    def message(self) -> str:
        return f"step {self.step}: {self.finding.description}{self.place.text}"


ACTIONS: dict[Action, Callable[[Watch, Found], None]] = {
    "report": Watch.report,
    "skip": Watch.skip,
    "stop": Watch.stop,
    "roll_back": Watch.roll_back,
}


def _finite_norm(norm: SupportsFloat) -> float:
    """Return a gradient norm, NaN for one that is not finite, for which DeepSpeed may return -1 or infinity."""
    value = float(norm)
    return value if 0 <= value < math.inf else math.nan
