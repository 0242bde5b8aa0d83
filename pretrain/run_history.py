"""With which settings, and by how many processes, the steps of a run were computed: a resumed run may have others."""

from pathlib import Path
from typing import Any, NamedTuple

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.configs.json_lines import read_rows
from sesame.configs.kinds import Kind, kind_of
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints.resume import settings
from sesame.pretrain.config import RunConfig
from sesame.pretrain.reporting import run_record

WITHOUT_EFFECT = (
    "report.",
    "checkpoint.",
    "data.verify",
    "data.loader_processes",
    "parallel.timeout_minutes",
    "watch.slow_factor",
    "watch.layers_every_steps",
)
"""Beginnings of settings that do not change what a step computes."""
LEARNING_RATE = ("optimizer.learning_rate", "schedule.warmup", "schedule.decay", "schedule.final_fraction")
"""Those that change the learning rate only, which is recorded for each step."""
LENGTH = ("steps", "stop.")
"""Those that change it and what else follows the fraction of the run that is taken."""


class Computed(NamedTuple):
    """How steps were computed."""

    config: RunConfig
    processes: int
    """0 if it is not known."""


def computed_with(run: Path, checkpoints: dict[int, Path], first: int, last: int) -> Computed:
    """Return how the run in the folder ``run`` computed the steps after ``first`` up to ``last``.

    Args:
        checkpoints: all complete ones of the run, by step.

    Raises:
        CheckpointError: a setting or the number of processes changed between these steps.
    """
    starts = _starts(run, first, last)
    if not starts:
        return _by_record(run, checkpoints, first, last)
    file = str(run / run_record.NAME)
    used = _computed(starts[0], file)
    for start, resumed in zip(starts[1:], starts, strict=False):
        earlier = _computed(start, file)
        without_effect = _without_effect(used.config, earlier.config)
        before, values = _values(earlier, without_effect), _values(used, without_effect)
        # A table that one of the two has not has settings of its own.
        for key in before | values:
            if before.get(key) != values.get(key):
                raise _changed(run, f"{key} {before.get(key)} -> {values.get(key)}", resumed["step"], first)
    return used


def follows_fraction(config: RunConfig) -> bool:
    """Return whether the data or the weights of the objectives follow the fraction of the run that is taken."""
    schedule = config.schedule
    return bool(schedule.global_batch or schedule.mask_rate or schedule.objectives or config.data.stages)


def _starts(run: Path, first: int, last: int) -> list[dict[str, Any]]:
    """Return the starts that computed these steps, the newest first; nothing if ``run.jsonl`` does not say who computed
    all of them."""
    starts = [row["start"] for row in read_rows(run / run_record.NAME) if _is_start(row.get("start"))]
    found, end = [], last
    for start in reversed(starts):
        # A later start has taken the steps after its own first one again; it never goes back further.
        if start["step"] < end:
            found.append(start)
            end = start["step"]
        if end <= first:
            return found
    return []


def _is_start(start: Any) -> bool:
    return isinstance(start, dict) and isinstance(start.get("step"), int) and isinstance(start.get("config"), dict)


def _computed(start: dict[str, Any], where: str) -> Computed:
    return Computed(configs.parse(start["config"], RunConfig, where), start.get("processes", 0))


def _values(computed: Computed, without_effect: tuple[str, ...]) -> dict[str, Any]:
    """Return what changes the bits of a step, by name.

    Args:
        without_effect: beginnings of settings that do not.
    """
    compared = (each for each in settings(computed.config) if kind_of(each.field) is not Kind.DERIVED)
    values = {each.key: each.value for each in compared if not each.key.startswith(without_effect)}
    return {**values, "the number of processes": computed.processes}


def _without_effect(*used: RunConfig) -> tuple[str, ...]:
    """Return beginnings of settings that a replay of runs with these configurations need not know."""
    return (*WITHOUT_EFFECT, *LEARNING_RATE, *(() if any(map(follows_fraction, used)) else LENGTH))


def _by_record(run: Path, checkpoints: dict[int, Path], first: int, last: int) -> Computed:
    """Return what the oldest checkpoint from ``last`` on says, or the newest one."""
    folder = checkpoints[min((step for step in checkpoints if step >= last), default=max(checkpoints))]
    record = records.read(folder)
    config = configs.parse(record.config, RunConfig, str(folder / records.FILE))
    for change in record.changes:
        if change.step > first and not change.key.startswith(_without_effect(config)):
            raise _changed(run, f"{change.key} {change.before} -> {change.after}", change.step, first)
    return Computed(config, record.processes)


def _changed(run: Path, change: str, step: int, first: int) -> CheckpointError:
    origin = f"the checkpoint of step {first}" if first else "the initial weights"
    return CheckpointError(
        f"{run}: was resumed at step {step} with a change, {change}, and a replay from {origin} computes all steps "
        f"with the same settings; give a step up to {step}, or one after a checkpoint that is later than the change"
    )
