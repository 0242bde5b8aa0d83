"""Why a layout is taken, and which one is nearest to one that does not fit."""

from sesame.pretrain.planning.gpus import Assumptions
from sesame.pretrain.planning.layout import Layout
from sesame.pretrain.planning.plan import Plan

GIB = 2**30
SETTINGS = {
    "parallel.tensor": "tensor",
    "parallel.sequence": "sequence",
    "parallel.expert": "expert",
    "parallel.zero_stage": "zero_stage",
    "parallel.recompute": "recompute",
    "parallel.offload": "offload",
    "data.micro_batch": "micro_batch",
}
"""Setting of a run -> field of a layout."""

RECOMPUTE = {"none": "without recompute", "attention": "recompute of attention", "block": "recompute of blocks"}


def settings(layout: Layout) -> dict[str, str]:
    """Return the settings of a run that give the layout, as TOML values."""
    return {setting: str(getattr(layout, field)).lower() for setting, field in SETTINGS.items()}


def describe(layout: Layout) -> str:
    """Return a layout in words."""
    experts = f", experts over {layout.expert}" if layout.expert > 1 else ""
    recompute = RECOMPUTE[layout.recompute]
    sequence = " with sequence parallelism" if layout.sequence else ""
    split = f"tensor {layout.tensor}{sequence} x data {layout.data}{experts}, ZeRO {layout.zero_stage}"
    offload = "" if layout.offload == "none" else f", {layout.offload} in host memory"
    return f"{split}{offload}, {recompute}, micro-batches of {layout.micro_batch}"


def nearest(layout: Layout, plans: list[Plan], assumed: Assumptions) -> Plan | None:
    """Return the fitting plan that differs in the fewest settings, and of those the fastest."""
    fitting = [plan for plan in plans if plan.fits(assumed)]
    return min(fitting, key=lambda plan: (len(changes(layout, plan.layout)), plan.time.total), default=None)


def changes(before: Layout, after: Layout) -> dict[str, str]:
    """Return the settings that differ, with their new values."""
    old = settings(before)
    return {name: value for name, value in settings(after).items() if value != old[name]}


def reasons(chosen: Plan, plans: list[Plan], assumed: Assumptions) -> list[str]:
    """Return what speaks against the layouts that differ from the chosen one in one way, each in a sentence."""
    found = []
    for plan in plans:
        differing = changes(chosen.layout, plan.layout)
        differing.pop("data.micro_batch", None)
        if len(differing) != 1:
            continue
        ((name, value),) = differing.items()
        if not plan.fits(assumed):
            needs = f"needs {plan.memory.total / GIB:,.1f} GiB, with micro-batches of {plan.layout.micro_batch}"
        elif plan.time.total >= chosen.time.total:
            slower = plan.time.total / chosen.time.total - 1
            needs = f"is {slower:.0%} slower" if slower >= 0.005 else "is as fast"
        else:
            needs = f"is only {1 - plan.time.total / chosen.time.total:.1%} faster"
        found.append(f"{name.partition('.')[2]} = {value} {needs}")
    return found
