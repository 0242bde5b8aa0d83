"""A run in some numbers: for the head of the page and the live view."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from sesame.configs.durations import duration
from sesame.pretrain.monitoring.curves import PHASES, NamedRun, seconds_by_phase
from sesame.pretrain.monitoring.record import RunFiles, values
from sesame.pretrain.monitoring.scale import label

Fact = Callable[[RunFiles], str]


def summary(runs: Sequence[NamedRun]) -> list[list[str]]:
    """Return rows of a name and a value for each run, without those that no run has."""
    rows = [[name, *(fact(each.run) for each in runs)] for name, fact in FACTS.items()]
    last = rows.pop()
    for name in dict.fromkeys(name for each in runs for name in each.run.objectives("validation")):
        rows.append([f"validation {name.replace('_', ' ')}", *(validation(each.run, name) for each in runs)])
    return [row for row in (*rows, last) if any(row[1:])]


def validation(run: RunFiles, objective: str) -> str:
    """Return the last and the lowest validation loss, and how far that is from the unigram baseline."""
    losses = values(run.validations, "validation", objective)
    if not losses:
        return ""
    last, (step, lowest) = losses[-1][1], min(losses, key=lambda point: point[1])
    text = f"{last:.3f} nats" if lowest == last else f"{last:.3f} nats (lowest {lowest:.3f} at step {step:,.0f})"
    baseline = run.baseline(objective)
    if baseline is None:
        return text
    return f"{text}, {abs(baseline - last):.3f} {'below' if last <= baseline else 'above'} the unigram baseline"


def last_start(run: RunFiles, key: str) -> Any:
    """Return a fact of the last start, None if it is not known."""
    return run.starts[-1].get(key) if run.starts else None


def state(run: RunFiles) -> str:
    """Return whether the run goes on, and if not, how it ended."""
    if run.end is not None:
        return str(run.end.get("reason", "ended"))
    if not run.starts:
        return ""
    return "killed" if run.is_killed else "running"


def training_seconds(run: RunFiles) -> float:
    """Return the time of training of all starts together, by the seconds since the start that each report has."""
    starts = [start["step"] for start in run.starts if isinstance(start.get("step"), int)]
    total = before = 0.0
    last = 0
    for row in run.reports:
        seconds, step = float(row.get("seconds", 0.0)), row["step"]
        # Runs of older versions say nothing of their starts.
        is_resumed = seconds <= before or any(last <= start < step for start in starts)
        total, before, last = total + seconds - (0.0 if is_resumed else before), seconds, step
    return total


def _model(run: RunFiles) -> str:
    parameters = last_start(run, "parameters")
    family = str(run.config.get("model", {}).get("family", ""))
    return f"{family}, {parameters:,} parameters" if parameters else family


def _devices(run: RunFiles) -> str:
    if not run.starts:
        return ""
    start, parallel = run.starts[-1], run.config.get("parallel", {})
    fp8 = ", products of blocks in fp8" if parallel.get("fp8") else ""
    return (
        f"{start.get('processes')} × {start.get('device_name')} (tensor {parallel.get('tensor')}, "
        f"ZeRO {parallel.get('zero_stage')}, {parallel.get('precision')}{fp8})"
    )


def _speed(run: RunFiles) -> str:
    """Median over the reports: the first steps of a run are slow."""
    speeds = [value for _, value in values(run.reports, "tokens_per_second")]
    return f"{label(median(speeds))} tokens/s" if speeds else ""


def _use(run: RunFiles) -> str:
    flops = [value for _, value in values(run.reports, "teraflops")]
    if not flops:
        return ""
    shares = [value for _, value in values(run.reports, "model_flops_use")]
    text = f"{label(median(flops))} TFLOP/s"
    return f"{text}, {median(shares):.1%} of the peak" if shares else f"{text} (peak unknown)"


def _parts(run: RunFiles) -> str:
    """Shares of the time of steps."""
    rows = [(phases, row["steps"]) for row in run.reports if (phases := seconds_by_phase(row))]
    totals = {name: sum(phases[name] * steps for phases, steps in rows) for name in PHASES}
    whole = sum(totals.values())
    shown = sorted(((seconds, name) for name, seconds in totals.items() if seconds > 0.001 * whole), reverse=True)
    return ", ".join(f"{name} {seconds / whole:.1%}" for seconds, name in shown)


def _slowest(run: RunFiles) -> str:
    """Which process is the slowest most often, and how slow it is then."""
    found = [row["ranks"] for row in run.reports if isinstance(row.get("ranks"), dict)]
    if not found:
        return ""
    rank, count = Counter(ranks["slowest_rank"] for ranks in found).most_common(1)[0]
    ratios = [each["slowest"] / each["median"] for each in found if each["slowest_rank"] == rank and each["median"]]
    ratio = f", {median(ratios):.2f} times the median" if ratios else ""
    return f"rank {rank} in {count / len(found):.0%} of the reports{ratio}"


def _memory(run: RunFiles) -> str:
    sizes = [value for _, value in values(run.reports, "memory_gib")]
    return f"{max(sizes):.2f} GiB" if sizes else ""


def _loss(run: RunFiles) -> str:
    if not run.reports:
        return ""
    return ", ".join(f"{name.replace('_', ' ')} {loss:.3f}" for name, loss in run.reports[-1]["train"].items())


def _versions(run: RunFiles) -> str:
    return ", ".join(f"{name} {number}" for name, number in (last_start(run, "versions") or {}).items())


def _steps(run: RunFiles) -> str:
    return f"{run.step:,}" if run.planned_steps is None else f"{run.step:,} of {run.planned_steps:,}"


FACTS: dict[str, Fact] = {
    "folder": lambda run: str(run.folder),
    "state": state,
    "model": _model,
    "devices": _devices,
    "steps": _steps,
    "training time": lambda run: duration(training_seconds(run)),
    "throughput": _speed,
    "model FLOPs": _use,
    "time of a step": _parts,
    "slowest process": _slowest,
    "memory": _memory,
    "events": lambda run: f"{len(run.events):,}",
    "training loss": _loss,
    "versions": _versions,
}
"""Row of the summary -> text of a run, empty if it is not known."""
