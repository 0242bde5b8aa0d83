"""Compute steps of a run again from one of its checkpoints, and compare them with what the run recorded, bit by bit.

A difference is a fault of the hardware that raised no error (silent data corruption; Dixit et al. 2021, "Silent Data
Corruptions at Scale"), or a machine, software or kernel that does not give the same bits each time.
"""

import math
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from sesame.configs.errors import CheckpointError, ConfigError, TrainingError
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints.load import Checkpoint, open_checkpoint
from sesame.pretrain.checkpoints.retention import all_complete, folder
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.skipped import Skipped
from sesame.pretrain.optimizers import AVERAGE, OPTIMIZERS
from sesame.pretrain.parallel.deterministic import deterministic_kernels
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.run_history import computed_with, follows_fraction
from sesame.pretrain.train import Run
from sesame.pretrain.watch import events, step_values
from sesame.pretrain.watch.step_values import StepValues


class Plan(NamedTuple):
    """What is computed again."""

    run: Path
    config: RunConfig
    start: Path | None
    """Checkpoint; None: the initial weights."""
    first: int
    """Steps that were taken before."""
    last: int
    processes: int
    """Of the run; 0 if its checkpoints do not say."""

    @property
    def origin(self) -> str:
        return str(self.start) if self.start else "the initial weights"


class Difference(NamedTuple):
    """Where the run and its replay differ first."""

    step: int
    what: str
    recorded: str
    computed: str


class Replay(NamedTuple):
    """The result."""

    is_same: bool
    lines: tuple[str, ...]
    """For the user."""


def plan(run: Path, step: int) -> Plan:
    """Choose the newest checkpoint before ``step`` of the run in the folder ``run``.

    Raises:
        CheckpointError: the folder has no checkpoint, recorded nothing of that step, or not all that is needed to
            compute it again.
    """
    checkpoints = all_complete(run)
    if not checkpoints:
        raise CheckpointError(f"{run}: does not contain a checkpoint; give the output folder of `sesame pretrain`")
    recorded = step_values.read(run)
    if step not in recorded:
        file = run / step_values.FILE
        if not recorded:
            raise CheckpointError(f"{file}: has values of no step, so there is nothing to compare; train the run again")
        known = f"steps {min(recorded)} to {max(recorded)}"
        raise CheckpointError(f"{file}: has values of {known}, not of step {step}; give one of those")
    before = max((number for number in checkpoints if number < step), default=0)
    config, processes = computed_with(run, checkpoints, before, step)
    if config.stop.minutes is not None and follows_fraction(config):
        raise CheckpointError(
            f"{run}: has stop.minutes, and its data or the weights of its objectives follow a schedule, so they "
            "followed the clock, which is not recorded, and no step can be computed again; end a run that is to be "
            "replayed by steps, tokens or epochs"
        )
    return Plan(run, config, checkpoints.get(before), before, step, processes)


def replay(plan: Plan, mesh: Mesh) -> Replay:
    """Compute the steps of ``plan`` again; a collective.

    Raises:
        SesameError: the dataset or a checkpoint does not fit or is damaged, or the number of processes differs.
    """
    if plan.processes not in (0, mesh.world):
        raise ConfigError(
            f"{plan.run}: was computed by {plan.processes} processes, but {mesh.world} were started, which round "
            f"differently; start {plan.processes}"
        )
    recorded = step_values.read(plan.run)
    computed, differences = _compute(plan, mesh)
    candidates = [_first_difference(plan, recorded, computed), *differences]
    found = min((each for each in candidates if each), key=lambda each: each.step, default=None)
    if found is None:
        return Replay(True, (_describe_sameness(plan),))
    again, _ = _compute(plan._replace(last=found.step), mesh)
    repeated = _first_difference(plan._replace(last=found.step), computed, again)
    return Replay(False, (_describe(plan, found), VERDICTS[repeated is None]))


VERDICTS = {
    True: "computed twice here, it is the same both times: a fault of the run's memory or processors that raised no "
    "error has changed its numbers, or it had other hardware or software than this; do not trust what it saved since "
    "the checkpoint before, and test that machine",
    False: "computed twice here, it differs as well: a kernel or the machine does not give the same bits each time; "
    "set watch.deterministic = true in the run, or test the machine",
}
"""Whether two replays are the same -> what a difference from the run means."""


class _ReplayedRun(Run):
    """A run with the learning rates of another, which may have followed from the clock."""

    recorded: dict[int, StepValues]

    def _log_start(self, *_: object) -> None:
        self.reporter.log(f"computing step {self.step + 1} and those after it again")

    @property
    def learning_rate(self) -> float:
        return self.recorded[self.step + 1].learning_rate if self.step + 1 in self.recorded else super().learning_rate


def _compute(plan: Plan, mesh: Mesh) -> tuple[dict[int, StepValues], list[Difference]]:
    """Return the values of each step, and how checkpoints differ from those of the run."""
    saved = mesh.gather_objects(all_complete(plan.run) if mesh.is_rank_zero else None)[0]
    differences: list[Difference] = []
    with _copied_start(plan, mesh) as output, deterministic_kernels(plan.config.watch.deterministic):
        run = _ReplayedRun(_config(plan, output), mesh)
        run.recorded = step_values.read(plan.run)
        # Also what the run skipped when it went back to a later checkpoint than that of the replay.
        skipped = [row["samples"] for row in events.roll_backs(plan.run)]
        run.batches.skipped = Skipped.of_run(skipped, run.resume_state.dataset_first_sample)
        try:
            while run.step < plan.last:
                metrics = run.train_step()
                if run.watch.check(run.step, metrics, run.gradients_again):
                    break
                if run.step in saved:
                    run.watch.finish(run.gradients_again)
                    run.save()
                    run.saver.finish()
                    if mesh.is_rank_zero:
                        differences += _compare(saved[run.step], folder(output, run.step), run.step)
            run.watch.finish(run.gradients_again)
            # Also where something was found that the run would go back from.
            run.watch.steps.write()
        except TrainingError as error:
            # The run has ended at this step as well, or the comparison will say that it has not.
            run.reporter.log(str(error))
        finally:
            run.close()
        mesh.barrier()
        return mesh.gather_objects((step_values.read(output), differences) if mesh.is_rank_zero else None)[0]


@contextmanager
def _copied_start(plan: Plan, mesh: Mesh) -> Iterator[Path]:
    """Yield a folder that looks like the run's at the start of the replay, the same in every process."""
    output = plan.run / f"replay-{mesh.gather_objects(secrets.token_hex(8))[0]}"
    try:
        if mesh.is_rank_zero:
            (output / "checkpoints").mkdir(parents=True)
            if plan.start is not None:
                folder(output, plan.first).symlink_to(plan.start.resolve())
            if (plan.run / events.FILE).exists():
                shutil.copyfile(plan.run / events.FILE, output / events.FILE)
        mesh.barrier()
        yield output
    finally:
        if mesh.is_rank_zero:
            shutil.rmtree(output, ignore_errors=True)


def _config(plan: Plan, output: Path) -> RunConfig:
    """Return the configuration of the run, with an output of its own."""
    report = plan.config.report.model_copy(update={"tensorboard": False, "trackers": (), "profile_steps": None})
    checkpoint = plan.config.checkpoint.model_copy(update={"background": False, "keep": 2})
    watch = plan.config.watch.model_copy(update={"layers_every_steps": 0})
    return plan.config.model_copy(update={"output": output, "report": report, "checkpoint": checkpoint, "watch": watch})


def _first_difference(
    plan: Plan, recorded: dict[int, StepValues], computed: dict[int, StepValues]
) -> Difference | None:
    for step in range(plan.first + 1, plan.last + 1):
        for name in ("loss", "gradient_norm"):
            values = [getattr(each[step], name) if step in each else math.nan for each in (recorded, computed)]
            # As text, because 0.0 equals -0.0, but has other bits.
            if values[0].hex() != values[1].hex():
                return Difference(step, name.replace("_", " "), *map(_exact, values))
    return None


def _exact(value: float) -> str:
    return f"{value!r} ({value.hex()})"


def _describe_sameness(plan: Plan) -> str:
    steps = f"steps {plan.first + 1} to {plan.last}" if plan.last - plan.first > 1 else f"step {plan.last}"
    saved = [str(number) for number in sorted(all_complete(plan.run)) if plan.first < number <= plan.last]
    plural = "s" if len(saved) > 1 else ""
    checkpoints = f", and the checkpoint{plural} of step{plural} {', '.join(saved)}," if saved else ""
    return (
        f"{steps}, computed again from {plan.origin}: losses and gradient norms{checkpoints} are the same in every bit"
    )


def _describe(plan: Plan, found: Difference) -> str:
    return (
        f"step {found.step}, computed again from {plan.origin}: the first difference is the {found.what}, recorded as "
        f"{found.recorded}, now {found.computed}"
    )


def _compare(saved: Path, computed: Path, step: int) -> list[Difference]:
    """Return the first tensor that differs between a checkpoint of the run and the replay's."""
    ours, theirs = Checkpoint(computed, records.read(computed)), open_checkpoint(saved)
    if ours.record.files == theirs.record.files:
        return []
    optimizer = OPTIMIZERS[theirs.record.config["optimizer"]["name"]]._replace(averages=theirs.has(AVERAGE))
    for kind in ("weights", *optimizer.moments):
        names = [each for each in theirs.record.shapes if kind in ("weights", *optimizer.moments_of(each))]
        stored, again = theirs.tensors(kind, names), ours.tensors(kind, names)
        for name in names:
            differs = (_bits(stored.whole(name)) != _bits(again.whole(name))).reshape(-1)
            if differs.any():
                index = int(differs.int().argmax())
                values = [float(each.whole(name).reshape(-1)[index]) for each in (stored, again)]
                what = f"checkpoint {saved}: {kind} of {name} in {int(differs.sum())} of {differs.numel()} entries"
                return [Difference(step, f"{what}, first entry {index}", *map(_exact, values))]
    return []


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()])
