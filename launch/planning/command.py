"""``sesame plan``: what a run needs, printed before it is started."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rich.console import Console
from rich.table import Table

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.launch.machine import Machine

# Of pretrain/planning; a stage is imported by the functions that need it.
Assumptions: TypeAlias = Any
Plan: TypeAlias = Any
Planner: TypeAlias = Any

GIB = 2**30
MOST_DEVICES = 65536
"""Up to so many are tried where fewer do not do."""
SHOWN = 12
"""Rows of the table of layouts."""


class Request(NamedTuple):
    """The options of the command."""

    run: Path
    overrides: Sequence[str]
    devices: int | None
    device: str
    machine: Path | None
    memory_gib: float | None
    """Plan for devices with so much memory; without ``devices``, for as few of them as possible."""
    as_configured: bool
    """Only the layout of the run's file."""
    assume: Sequence[str]
    vocabulary: int | None
    sequence_length: int | None
    corpus: Path | None


def plan(request: Request, console: Console) -> None:
    """Print a plan.

    Raises:
        ConfigError: nothing fits, or the run's own layout does not if it was asked for.
    """
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.planning import rows
    from sesame.pretrain.planning.plan import Planner

    run = configs.load(request.run, RunConfig, request.overrides)
    text = rows.find(Path(run.data.dataset), request.corpus, request.vocabulary, request.sequence_length)
    planner = Planner(run, text.vocabulary, text.rows, assumptions(request))
    if request.machine:
        calibrated = calibration(Machine.load(request.machine), planner)
        planner = Planner(run, text.vocabulary, text.rows, calibrated)
    devices, plans = _devices_and_plans(planner, request)
    if request.as_configured:
        chosen = _configured(planner, devices, plans, request)
    elif (chosen := planner.choose(plans)) is None:
        raise ConfigError(_does_not_fit(planner, devices, plans, request))
    chosen = planner.plan(chosen.layout, exact=True)
    _print_run(planner, request, console)
    if not request.as_configured:
        _print_layouts(planner, devices, plans, console)
    _print_chosen(planner, chosen, request, console)
    if not request.as_configured:
        _print_reasons(planner, chosen, plans, console)
    _print_assumptions(planner.assumed, request, console)


def assumptions(request: Request) -> Assumptions:
    """Return the row of the device, or what was measured of a machine, with the changes of ``--assume``."""
    from sesame.pretrain.planning import gpus

    changes: dict[str, Any] = {}
    name = request.device
    if request.machine:
        measured = Machine.load(request.machine)
        name, changes = measured.devices[0].type, _measured(measured, request)
        name = "cpu" if name == "cpu" else "h100-80gb"
    if request.memory_gib is not None:
        changes["memory_gib"] = request.memory_gib
    for each in request.assume:
        try:
            configs.apply_override(changes, each)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--set", "--assume")) from None
    return gpus.assumptions(name, changes)


def _measured(machine: Machine, request: Request) -> dict[str, Any]:
    """Return the assumptions that a machine's file replaces; those are speeds that were reached, not peaks."""
    device = machine.devices[0]
    changes: dict[str, Any] = {
        "memory_gib": device.memory_bytes / GIB,
        "fp32_tflops": device.products.fp32 / 1e12,
        "bf16_tflops": device.products.bf16 / 1e12,
        "memory_bandwidth": device.memory_bandwidth / 1e9,
        "efficiency": 1.0,
        "bandwidth_efficiency": 1.0,
        "devices_per_node": len(machine.devices),
    }
    if device.type == "cpu" and device.products.bf16 <= device.products.fp32:
        changes["bf16_tflops"] = 0.0
    if machine.reduction_bandwidth:
        processes = len(machine.devices)
        # An all-reduce moves each entry 2 (n - 1) / n times.
        moved = machine.reduction_bandwidth * 2 * (processes - 1) / processes
        changes |= {"link_within": moved / 1e9, "link_efficiency": 1.0}
    return changes


def calibration(machine: Machine, planner: Planner) -> Assumptions:
    """Return a planner's assumptions with the ratio of the training self-test's measured time to its planned one.

    Rates of single operations are those of large ones; the layers of a model are smaller, by how much depends on the
    machine. Without a self-test in the run's precision nothing changes.
    """
    from sesame.data_pipeline.dataset.synthetic import MASKED
    from sesame.launch.doctor.training import SHAPES, run_config
    from sesame.pretrain.config import RunConfig
    from sesame.pretrain.planning.plan import Planner
    from sesame.pretrain.planning.rows import Rows

    training, processes = machine.training, len(machine.devices)
    if training is None or training.precision != planner.precision or planner.assumed.calibration != 1.0:
        return planner.assumed
    shape = SHAPES[machine.devices[0].type]
    values = run_config(shape, Path("self-test"), Path("self-test"), processes)
    values["parallel"] = {"precision": training.precision}
    run = configs.parse(values, RunConfig, "the self-test")
    rows = Rows(shape.positions, round(MASKED * shape.positions), "the self-test")
    tested = Planner(run, shape.vocabulary, rows, planner.assumed)
    layout = tested.configured(processes)
    assert layout is not None
    measured = tested.step_tokens / training.tokens_per_second
    ratio = measured / tested.plan(layout, exact=True).time.total
    return planner.assumed.model_copy(update={"calibration": ratio})


def _devices_and_plans(planner: Planner, request: Request) -> tuple[int, list[Plan]]:
    if request.devices is not None:
        return request.devices, planner.plans(request.devices)
    if request.memory_gib is None and request.machine is not None:
        devices = planner.assumed.devices_per_node
        return devices, planner.plans(devices)
    found = planner.smallest(MOST_DEVICES)
    if found is None:
        raise ConfigError(
            f"{request.run}: does not fit {planner.assumed.memory_gib:g} GiB on any number of devices up to "
            f"{MOST_DEVICES:,}; plan for devices with more memory"
        )
    return found


def _configured(planner: Planner, devices: int, plans: list[Plan], request: Request) -> Plan:
    """Return the plan of the run's own layout.

    Raises:
        ConfigError: it does not fit.
    """
    from sesame.pretrain.planning.reasons import changes, describe, nearest
    from sesame.pretrain.planning.split import IndivisibleError

    layout = planner.configured(devices)
    if layout is None:
        raise ConfigError(
            f"{request.run}: its batch and layout do not divide {devices} devices; leave --as-configured out to see "
            "the layouts that do"
        )
    try:
        plan = planner.plan(layout, exact=True)
    except IndivisibleError as error:
        raise ConfigError(
            f"{request.run}: cannot be split as configured, because {error}; leave out --as-configured"
        ) from None
    if plan.fits(planner.assumed):
        return plan
    needs = f"{request.run}: {describe(layout)} needs {_gib(plan.memory.total)} on each of {devices} devices"
    other = nearest(layout, plans, planner.assumed)
    if other is None:
        raise ConfigError(_does_not_fit(planner, devices, plans, request))
    words = " ".join(f"--set {name}={value}" for name, value in changes(layout, other.layout).items())
    raise ConfigError(
        f"{needs}, which have {_gib(planner.assumed.usable_bytes)} for tensors; the nearest that fits needs "
        f"{_gib(other.memory.total)}: {words}"
    )


def _does_not_fit(planner: Planner, devices: int, plans: list[Plan], request: Request) -> str:
    """Return a sentence with the smallest need, and the nearest number and kind of devices that do."""
    from sesame.pretrain.planning import gpus

    assumed = planner.assumed
    if not plans:
        return (
            f"{request.run}: data.global_batch {planner.run.data.global_batch} cannot be divided over {devices} "
            "devices; take a number of devices that divides it"
        )
    least = min(plans, key=lambda plan: plan.memory.total)
    more = next((n for n in _more(devices) if planner.choose(planner.plans(n))), None)
    enough = [name for name, row in gpus.ROWS.items() if _fits_row(least, row, assumed)]
    advice = [f"{more:,} devices of this kind" if more else "", f"as many {enough[-1]}" if enough else ""]
    layout = least.layout
    split = f"tensor {layout.tensor}, ZeRO {layout.zero_stage}, recompute {str(layout.recompute).lower()}"
    return (
        f"{request.run}: needs at least {_gib(least.memory.total)} on each of {devices} devices ({split}), which have "
        f"{_gib(assumed.usable_bytes)} for tensors; what does: "
        f"{' or '.join(filter(None, advice)) or 'a smaller model or shorter rows'}"
    )


def _more(devices: int) -> list[int]:
    return [devices * 2**exponent for exponent in range(1, 12) if devices * 2**exponent <= MOST_DEVICES]


def _fits_row(plan: Plan, row: tuple[float, ...], assumed: Assumptions) -> bool:
    return plan.fits(assumed.model_copy(update={"memory_gib": row[0]}))


def _print_run(planner: Planner, request: Request, console: Console) -> None:
    run, table = planner.run, Table(show_header=False, box=None, pad_edge=False)
    steps = run.steps
    for name, value in (
        ("run", f"{request.run} ({run.model.family})"),
        ("parameters", f"{planner.parameters:,}"),
        ("vocabulary", f"{planner.vocabulary.size:,} tokens"),
        ("rows", f"{planner.rows.tokens} tokens, {planner.rows.entries('P')} predictions: {planner.rows.origin}"),
        ("step", f"{run.data.global_batch:,} rows, {planner.step_tokens:,} tokens, {planner.step_flops:.3g} FLOPs"),
        ("run", f"{steps:,} steps, {planner.step_tokens * steps:.3g} tokens, {planner.step_flops * steps:.3g} FLOPs"),
        ("checkpoint", f"{_gb(planner.checkpoint_bytes)} on disk, and as much host memory while one is copied"),
    ):
        table.add_row(name, value)
    console.print(table)


def _print_layouts(planner: Planner, devices: int, plans: list[Plan], console: Console) -> None:
    fitting = sorted((each for each in plans if each.fits(planner.assumed)), key=lambda each: each.time.total)
    others = sorted((each for each in plans if not each.fits(planner.assumed)), key=lambda each: each.memory.total)
    title = f"{devices:,} x {planner.assumed.memory_gib:,.1f} GiB: {len(fitting)} of {len(plans)} layouts fit"
    table = Table("tensor", "data", "experts", "ZeRO", "recompute", "micro-batch", "memory", "s/step", title=title)
    for each in (*fitting[:SHOWN], *others[: max(0, SHOWN - len(fitting))]):
        layout = each.layout
        table.add_row(
            str(layout.tensor),
            str(layout.data),
            str(layout.expert),
            str(layout.zero_stage),
            "yes" if layout.recompute else "no",
            f"{layout.micro_batch} x {layout.accumulation}",
            _gib(each.memory.total),
            _seconds(each.time.total) if each.fits(planner.assumed) else "does not fit",
        )
    console.print(table)


def _print_chosen(planner: Planner, chosen: Plan, request: Request, console: Console) -> None:
    from sesame.pretrain.planning.reasons import describe, settings

    assumed, layout, run = planner.assumed, chosen.layout, planner.run
    seconds = chosen.time.total
    hours = seconds * run.steps / 3600
    devices_hours = hours * layout.processes
    energy = devices_hours * assumed.watts * assumed.pue / 1e6
    peak = assumed.bf16_tflops if layout.precision == "bf16" else assumed.fp32_tflops
    used = planner.step_flops / seconds / layout.processes / 1e12
    memory = {name: value for name, value in chosen.memory._asdict().items() if name != "phase"}
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("layout", f"{describe(layout)}, {layout.precision}"),
        ("settings", " ".join(f"--set {name}={value}" for name, value in settings(layout).items())),
        (
            "memory",
            f"{_gib(chosen.memory.total)} of {_gib(assumed.usable_bytes)}, at the {chosen.memory.phase}: "
            + ", ".join(f"{name} {_gib(value)}" for name, value in memory.items() if value),
        ),
        (
            "step",
            f"{_seconds(seconds)} s: "
            + ", ".join(
                f"{name} {_seconds(value)}" for name, value in chosen.time._asdict().items() if value > 0.001 * seconds
            ),
        ),
        (
            "speed",
            f"{planner.step_tokens / seconds:,.0f} tokens/s, {used:,.4g} TFLOP/s each, {used / peak:.0%} of peak",
        ),
        ("time", f"{hours:,.3g} hours, {devices_hours:,.3g} device-hours"),
        ("energy", f"{energy:,.3g} MWh"),
        ("cost", f"{devices_hours * assumed.price:,.2f} dollars"),
    ):
        table.add_row(name, value)
    console.print(table)


def _print_reasons(planner: Planner, chosen: Plan, plans: list[Plan], console: Console) -> None:
    from sesame.pretrain.planning.reasons import reasons

    console.print("why: the simplest of the fastest that fit", highlight=False)
    for sentence in reasons(chosen, plans, planner.assumed):
        console.print(f"  {sentence}", highlight=False)


def _print_assumptions(assumed: Assumptions, request: Request, console: Console) -> None:
    source = f"measured: {request.machine}" if request.machine else request.device
    table = Table("assumed", "value", "what it is", title=f"assumptions ({source}); change with --assume NAME=VALUE")
    for name, field in type(assumed).model_fields.items():
        value = getattr(assumed, name)
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value), field.description)
    console.print(table)


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= GIB else f"{size / 2**20:,.1f} MiB"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.3g} GB"


def _seconds(value: float) -> str:
    return f"{value:,.3g}"
