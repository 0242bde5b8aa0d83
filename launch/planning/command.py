"""``sesame plan``: what a run needs, printed before it is started."""

from pathlib import Path

from rich.console import Console

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.machine import Machine
from sesame.launch.planning import tables
from sesame.launch.planning.measured import assumptions, calibration
from sesame.launch.planning.refusals import MOST_DEVICES, configured, does_not_fit
from sesame.launch.planning.request import Plan, Planner, Request


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
    machine = Machine.load(request.machine) if request.machine else None
    planner = Planner(run, text.vocabulary, text.rows, assumptions(request, machine, run.parallel.precision))
    if machine is not None:
        planner = Planner(run, text.vocabulary, text.rows, calibration(machine, planner))
    devices, plans = _devices_and_plans(planner, request)
    if request.as_configured:
        chosen = configured(planner, devices, plans, request)
    elif (chosen := planner.choose(plans)) is None:
        raise ConfigError(does_not_fit(planner, devices, plans, request))
    chosen = planner.plan(chosen.layout, exact=True)
    tables.print_run(planner, request, console)
    if not request.as_configured:
        tables.print_layouts(planner, devices, plans, console)
    tables.print_chosen(planner, chosen, request, console)
    if not request.as_configured:
        tables.print_reasons(planner, chosen, plans, console)
    tables.print_assumptions(planner.assumed, request, console)


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
