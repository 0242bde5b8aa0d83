"""The charts of one run or of several: which numbers, and in which colours."""

from collections.abc import Sequence
from typing import NamedTuple

from sesame.pretrain.monitoring.chart import Chart, Curve, Marker
from sesame.pretrain.monitoring.record import Row, RunFiles, values

COLOURS = 6
"""Of runs; the seventh run has the first one's again."""
PHASES = {"forward": 0, "backward": 1, "communication": 2, "optimizer": 3, "data": 4, "saving": 5, "other": 6}
"""Part of a step's time -> its colour."""
MOST_MARKERS = 150
"""Events that are drawn in a chart; the table has all of them."""


class NamedRun(NamedTuple):
    """A run and how it is called on the page."""

    name: str
    run: RunFiles


class Quantity(NamedTuple):
    """A number of each report."""

    title: str
    unit: str
    keys: tuple[str, ...]
    factor: float = 1.0
    from_zero: bool = True
    may_be_log: bool = False


SPEED, SHARE = "Computing speed", "Model-FLOPs use"
QUANTITIES = (
    Quantity("Throughput", "real tokens/s", ("tokens_per_second",)),
    Quantity(SHARE, "% of the peak", ("model_flops_use",), 100.0),
    Quantity(SPEED, "TFLOP/s of the model", ("teraflops",)),
    Quantity("Memory of the largest process", "GiB", ("memory_gib",)),
    Quantity("Learning rate", "learning rate", ("learning_rate",)),
    Quantity("Gradient norm before clipping", "global norm", ("gradient_norm",), may_be_log=True),
)


def charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """Return all charts that the runs have numbers for."""
    found = _losses(runs)
    for quantity in QUANTITIES:
        curves = _curves(runs, quantity)
        # Both are the same curve where the peak is known.
        if curves and not (quantity.title == SPEED and any(chart.title == SHARE for chart in found)):
            found.append(
                Chart(
                    quantity.title, quantity.unit, curves, _markers(runs), None, quantity.from_zero, quantity.may_be_log
                )
            )
    return [*found, *_breakdowns(runs), *_ranks(runs)]


def step_range(runs: Sequence[NamedRun]) -> tuple[float, float]:
    """Return the first and the last step of all reports."""
    steps = [float(row["step"]) for _, run in runs for row in (*run.reports, *run.validations)]
    low, high = min(steps, default=0.0), max(steps, default=1.0)
    return (low, high) if low < high else (low - 1, high + 1)


def seconds_by_phase(row: Row) -> dict[str, float] | None:
    """Return the seconds of a step by phase, of the mean process, None if the report has none."""
    parts, steps, whole = row.get("time"), row.get("steps"), row.get("report_seconds")
    if not isinstance(parts, dict) or not isinstance(steps, int) or steps < 1 or not isinstance(whole, float):
        return None
    known = {name: float(parts.get(name, 0.0)) for name in PHASES if name != "other"}
    return {name: value / steps for name, value in {**known, "other": max(0.0, whole - sum(known.values()))}.items()}


def _losses(runs: Sequence[NamedRun]) -> list[Chart]:
    objectives = list(dict.fromkeys(name for _, run in runs for name in run.objectives("train")))
    found = []
    for name in objectives:
        title = name.replace("_", " ")
        levels = {level for _, run in runs if (level := run.baseline(name)) is not None}
        level = ("unigram baseline", levels.pop()) if len(levels) == 1 else None
        if len(runs) == 1:
            run = runs[0].run
            curves = [
                Curve("training", values(run.reports, "train", name), 0, is_faint=True),
                Curve("validation", values(run.validations, "validation", name), 1, has_markers=True),
            ]
            found.append(_loss_chart(f"Loss: {title}", curves, runs, level))
            continue
        for part, rows in (("training", "reports"), ("validation", "validations")):
            keys = ("train" if part == "training" else part, name)
            curves = [
                Curve(each.name, values(getattr(each.run, rows), *keys), number % COLOURS, False, part == "validation")
                for number, each in enumerate(runs)
            ]
            found.append(_loss_chart(f"{part.capitalize()} loss: {title}", curves, runs, level))
    return found


def _loss_chart(
    title: str, curves: Sequence[Curve], runs: Sequence[NamedRun], level: tuple[str, float] | None
) -> Chart:
    return Chart(title, "loss (nats)", [curve for curve in curves if curve.points], _markers(runs), level)


def _curves(runs: Sequence[NamedRun], quantity: Quantity) -> list[Curve]:
    found = []
    for number, each in enumerate(runs):
        points = [(step, value * quantity.factor) for step, value in values(each.run.reports, *quantity.keys)]
        if points:
            found.append(Curve(each.name, points, number % COLOURS))
    return found


def _breakdowns(runs: Sequence[NamedRun]) -> list[Chart]:
    """A stack for each run, all of one height."""
    found: list[Chart] = []
    for name, run in runs:
        parts = [(float(row["step"]), phases) for row in run.reports if (phases := seconds_by_phase(row))]
        used = [phase for phase in PHASES if any(phases[phase] > 0 for _, phases in parts)]
        curves = [
            Curve(phase, [(step, 1000 * phases[phase]) for step, phases in parts], PHASES[phase]) for phase in used
        ]
        if curves:
            title = "Time of a step" + (f": {name}" if len(runs) > 1 else "")
            found.append(Chart(title, "ms a step", curves, _markers([NamedRun(name, run)]), None, True, is_stack=True))
    heights = [sum(column) for chart in found for column in zip(*map(_heights, chart.curves), strict=True)]
    top = _without_peaks(heights)
    return [chart._replace(top=top) for chart in found]


def _ranks(runs: Sequence[NamedRun]) -> list[Chart]:
    """The work of the slowest process beside the median's, for each run of several processes."""
    found = []
    for name, run in runs:
        curves = [
            Curve(label, [(step, 1000 * value) for step, value in values(run.reports, "ranks", key)], colour)
            for label, key, colour in (("slowest process", "slowest", 1), ("median process", "median", 0))
        ]
        if curves[0].points:
            title = "Work in a step, without communication" + (f": {name}" if len(runs) > 1 else "")
            found.append(Chart(title, "ms a step", curves, _markers([NamedRun(name, run)]), None, True))
    return found


def _markers(runs: Sequence[NamedRun]) -> list[Marker]:
    found = []
    for name, run in runs:
        before = f"{name}: " if len(runs) > 1 else ""
        starts = [start for start in run.starts if isinstance(start.get("step"), int) and start["step"] > 0]
        found += [Marker(start["step"], f"{before}resumed at step {start['step']}", "start") for start in starts]
        events = run.events[:MOST_MARKERS]
        found += [Marker(row["step"], f"{before}{row.get('message') or row.get('kind', 'event')}") for row in events]
    return found


def _heights(curve: Curve) -> list[float]:
    return [value for _, value in curve.points]


def _without_peaks(heights: Sequence[float]) -> float:
    """Return a limit for stacks: above all but the highest hundredth, if that is much higher than the rest."""
    ordered = sorted(heights)
    usual = ordered[int(0.98 * (len(ordered) - 1))] if ordered else 1.0
    highest = ordered[-1] if ordered else 1.0
    return 1.05 * (highest if highest <= 2 * usual else 1.3 * usual)
