"""What does not fit, and what does instead."""

from sesame.configs.errors import ConfigError
from sesame.launch.planning.figures import gib
from sesame.launch.planning.request import Assumptions, Plan, Planner, Request

MOST_DEVICES = 65536
"""Up to so many are tried where fewer do not do."""


def configured(planner: Planner, devices: int, plans: list[Plan], request: Request) -> Plan:
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
    needs = f"{request.run}: {describe(layout)} needs {gib(plan.memory.total)} on each of {devices} devices"
    other = nearest(layout, plans, planner.assumed)
    if other is None:
        raise ConfigError(does_not_fit(planner, devices, plans, request))
    words = " ".join(f"--set {name}={value}" for name, value in changes(layout, other.layout).items())
    raise ConfigError(
        f"{needs}, which have {gib(planner.assumed.usable_bytes)} for tensors; the nearest that fits needs "
        f"{gib(other.memory.total)}: {words}"
    )


def does_not_fit(planner: Planner, devices: int, plans: list[Plan], request: Request) -> str:
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
    split = f"tensor {layout.tensor}, ZeRO {layout.zero_stage}, recompute {layout.recompute}"
    return (
        f"{request.run}: needs at least {gib(least.memory.total)} on each of {devices} devices ({split}), which have "
        f"{gib(assumed.usable_bytes)} for tensors; what does: "
        f"{' or '.join(filter(None, advice)) or 'a smaller model or shorter rows'}"
    )


def _more(devices: int) -> list[int]:
    return [devices * 2**exponent for exponent in range(1, 12) if devices * 2**exponent <= MOST_DEVICES]


def _fits_row(plan: Plan, row: tuple[float, ...], assumed: Assumptions) -> bool:
    return plan.fits(assumed.model_copy(update={"memory_gib": row[0]}))
