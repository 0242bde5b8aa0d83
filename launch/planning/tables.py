"""What ``sesame plan`` prints."""

import math
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sesame.configs.durations import duration
from sesame.configs.errors import ConfigError
from sesame.launch.planning.figures import count, disk, dollars, energy, figure, flops, gib
from sesame.launch.planning.request import DEVICE, Assumptions, Plan, Planner, Request

SHOWN = 12
"""Rows of the table of layouts."""
COLUMNS: dict[str, Callable[[Plan], str]] = {
    "tensor": lambda plan: f"{plan.layout.tensor}{', sequence' if plan.layout.sequence else ''}",
    "data": lambda plan: str(plan.layout.data),
    "experts": lambda plan: str(plan.layout.expert),
    "ZeRO": lambda plan: str(plan.layout.zero_stage),
    "recompute": lambda plan: plan.layout.recompute,
    "offload": lambda plan: plan.layout.offload,
    "micro-batch": lambda plan: f"{plan.layout.micro_batch} x {plan.layout.accumulation}",
    "memory": lambda plan: gib(plan.memory.total),
}
"""Name in that table -> cell of a plan."""
OMITTED = {"experts": {"1"}, "offload": {"none"}}
"""Column -> cells that are not worth one."""


def print_run(planner: Planner, request: Request, console: Console) -> None:
    run, table = planner.run, Table(show_header=False, box=None, pad_edge=False)
    steps = _steps(planner)
    for name, value in (
        ("run", f"{request.run} ({run.model.family})"),
        ("parameters", f"{planner.parameters:,}"),
        ("vocabulary", f"{planner.vocabulary.size:,} tokens"),
        ("rows", f"{planner.rows.tokens} tokens, {planner.rows.entries('P')} predictions: {planner.rows.origin}"),
        ("step", f"{run.data.global_batch:,} rows, {planner.step_tokens:,} tokens, {flops(planner.step_flops)} FLOPs"),
        (
            "run",
            f"{steps:,} steps, {count(planner.step_tokens * steps)} tokens, {flops(planner.step_flops * steps)} FLOPs",
        ),
        ("not counted", ", ".join(_not_counted(planner.run))),
        ("checkpoint", f"{disk(planner.checkpoint_bytes)} on disk, and as much host memory while one is copied"),
    ):
        if value:
            table.add_row(name, value)
    console.print(table)


def _not_counted(run: Any) -> list[str]:
    """Return the settings of a run, a ``RunConfig``, that change its length or its steps and are not in a plan."""
    settings = {
        "stop.epochs": run.stop.epochs,
        "stop.minutes": run.stop.minutes,
        "schedule.global_batch": run.schedule.global_batch,
        "schedule.mask_rate": run.schedule.mask_rate,
        "data.stages": run.data.stages,
        "parallel.compile": run.parallel.compile,
        "parallel.graphs": run.parallel.graphs,
    }
    return [name for name, value in settings.items() if value]


def _steps(planner: Planner) -> int:
    """Return the steps of a run: its number, or those of its tokens if they are fewer.

    Raises:
        ConfigError: neither is known before the run.
    """
    run = planner.run
    tokens = run.stop.tokens and math.ceil(run.stop.tokens / planner.step_tokens)
    if not run.steps and not tokens:
        raise ConfigError("a plan needs the length of the run; give steps or stop.tokens, as in --set steps=10000")
    return min(filter(None, (run.steps, tokens)))


def print_layouts(planner: Planner, devices: int, plans: list[Plan], console: Console) -> None:
    fitting = sorted((each for each in plans if each.fits(planner.assumed)), key=lambda each: each.time.total)
    others = sorted((each for each in plans if not each.fits(planner.assumed)), key=lambda each: each.memory.total)
    shown = [*fitting[:SHOWN], *others[: max(0, SHOWN - len(fitting))]]
    columns = {name: [cell(each) for each in shown] for name, cell in COLUMNS.items()}
    columns["s/step"] = [figure(each.time.total) if each.fits(planner.assumed) else "–" for each in shown]
    columns = {name: cells for name, cells in columns.items() if set(cells) != OMITTED.get(name)}
    title = f"{devices:,} x {planner.assumed.memory_gib:,.1f} GiB: {len(fitting)} of {len(plans)} layouts fit"
    title += " (–: does not)" if len(fitting) < len(shown) else ""
    table = Table(*columns, title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def print_chosen(planner: Planner, chosen: Plan, request: Request, console: Console) -> None:
    from sesame.pretrain.planning.reasons import describe, settings

    assumed, layout, steps = planner.assumed, chosen.layout, _steps(planner)
    seconds = chosen.time.total
    devices_hours = seconds * steps / 3600 * layout.processes
    peak = assumed.bf16_tflops if layout.precision == "bf16" else assumed.fp32_tflops
    used = planner.step_flops / seconds / layout.processes / 1e12
    memory = {name: value for name, value in chosen.memory._asdict().items() if name != "phase"}
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("layout", f"{describe(layout)}, {layout.precision}" + ", products of blocks in fp8" * layout.fp8),
        ("settings", " ".join(f"--set {name}={value}" for name, value in settings(layout).items())),
        (
            "memory",
            f"{gib(chosen.memory.total)} of {gib(assumed.usable_bytes)}, at the {chosen.memory.phase}: "
            + ", ".join(f"{name} {gib(value)}" for name, value in memory.items() if value),
        ),
        (
            "step",
            f"{figure(seconds)} s: "
            + ", ".join(
                f"{name} {figure(value)}" for name, value in chosen.time._asdict().items() if value > 0.001 * seconds
            ),
        ),
        (
            "speed",
            f"{planner.step_tokens / seconds:,.0f} tokens/s, {figure(used)} TFLOP/s each, {used / peak:.0%} of peak",
        ),
        ("time", f"{duration(seconds * steps)}, {figure(devices_hours)} device-hours"),
        ("energy", energy(devices_hours * assumed.watts * assumed.pue)),
        ("cost", dollars(devices_hours * assumed.price)),
    ):
        table.add_row(name, value)
    console.print(table)


def print_reasons(planner: Planner, chosen: Plan, plans: list[Plan], console: Console) -> None:
    from sesame.pretrain.planning.reasons import reasons

    console.print("why: the simplest of the fastest that fit", highlight=False)
    for sentence in reasons(chosen, plans, planner.assumed):
        console.print(f"  {sentence}", highlight=False)


def print_assumptions(assumed: Assumptions, request: Request, console: Console) -> None:
    from sesame.pretrain.planning import gpus

    source = f"measured: {request.machine}" if request.machine else gpus.find(request.device or DEVICE)
    if request.memory_gib is not None and request.device is None and request.machine is None:
        console.print(f"speeds, power and price are those of {source}; name your device with --gpu", highlight=False)
    table = Table("assumed", "value", "what it is", title=f"assumptions ({source}); change with --assume NAME=VALUE")
    for name, field in type(assumed).model_fields.items():
        value = getattr(assumed, name)
        table.add_row(name, figure(value, 4) if isinstance(value, float) else str(value), field.description)
    console.print(table)
