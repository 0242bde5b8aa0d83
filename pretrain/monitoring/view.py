"""The picture of a run in a terminal: progress, losses with small curves, speed, times, events, checkpoints."""

import time
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sesame.configs.durations import duration
from sesame.pretrain.monitoring.curves import PHASES, seconds_by_phase
from sesame.pretrain.monitoring.record import Row, RunFiles, values
from sesame.pretrain.monitoring.scale import label, mean_rows
from sesame.pretrain.monitoring.summary import state

BARS = "▁▂▃▄▅▆▇█"
STYLES = ("blue", "red", "green", "magenta", "yellow", "cyan", "bright_black")
"""By the number of a colour."""
LAST_REPORTS = 20
"""Over which speed and the time left are computed."""
MOST_RANKS = 16
"""Processes whose times are shown; of more, the slowest."""
MOST_EVENTS = 5


def view(run: RunFiles, width: int, now: float | None = None) -> RenderableType:
    """Return the view of a run as it is now.

    Args:
        width: of the terminal, in columns.
        now: seconds since 1970; None: the clock's.
    """
    curve_width = max(12, min(40, width - 78))
    parts = [_progress(run, width), _losses(run, curve_width), _speed(run, curve_width), _times(run, width)]
    parts += [_ranks(run, width), _events(run), _checkpoint(run, time.time() if now is None else now)]
    shown = [part for part in parts if part is not None]
    title = f"{run.folder} – {state(run) or 'state unknown'}"
    return Panel(Group(*shown), title=Text(title), title_align="left", border_style="bright_black")


def sparkline(numbers: Sequence[float], width: int) -> str:
    """Return a curve of ``width`` characters, eight levels high."""
    if not numbers:
        return ""
    means = [row[0] for row in mean_rows([(number,) for number in numbers], width)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def expected_steps(run: RunFiles) -> float | None:
    """Return at which step the run will end by all its limits, None if it is not known."""
    planned, minutes = run.planned_steps, run.config.get("stop", {}).get("minutes")
    rate = _steps_per_second(run)
    if not isinstance(minutes, int | float) or rate is None:
        return planned
    by_clock = run.step + max(0.0, 60 * minutes - run.used_seconds) * rate
    return by_clock if planned is None else min(planned, by_clock)


def step_of(run: RunFiles, step: int) -> str:
    """Return a step and the last one, the latter with a tilde if it follows from the speed."""
    end = expected_steps(run)
    return f"{step}" if end is None else f"{step}/{'~' * (end != run.planned_steps)}{end:.0f}"


def time_left(run: RunFiles) -> str:
    """Return the time to the end at the speed of the last reports, empty if it is not known."""
    rate, end = _steps_per_second(run), expected_steps(run)
    return duration((end - run.step) / rate) if rate and end is not None and end > run.step else ""


def _steps_per_second(run: RunFiles) -> float | None:
    rows = [row for row in run.reports[-LAST_REPORTS:] if row.get("steps") and row.get("report_seconds")]
    seconds = sum(row["report_seconds"] for row in rows)
    return sum(row["steps"] for row in rows) / seconds if seconds else None


def _progress(run: RunFiles, width: int) -> RenderableType:
    end = expected_steps(run)
    if end is None:
        return Text(f"step {run.step:,}")
    table = Table.grid(padding=(0, 2))
    is_limited = end != run.planned_steps
    left = time_left(run) if run.end is None else ""
    table.add_row(
        f"step {run.step:,} of {'~' * is_limited}{end:,.0f}",
        ProgressBar(total=max(end, 1), completed=run.step, width=max(10, min(50, width - 60))),
        f"{min(1.0, run.step / max(end, 1)):.0%}",
        f"{left} left" if left else "",
    )
    return table


def _losses(run: RunFiles, width: int) -> RenderableType | None:
    if not run.reports:
        return Text("no report yet", style="bright_black")
    table = Table.grid(padding=(0, 2))
    for name in run.objectives("train"):
        points = [value for _, value in values(run.reports, "train", name)]
        known = values(run.validations, "validation", name)
        text = f"validation {known[-1][1]:.3f} at step {known[-1][0]:,.0f}" if known else ""
        baseline = run.baseline(name)
        text += f" (unigram baseline {baseline:.3f})" if known and baseline is not None else ""
        curve = Text(sparkline(points, width), style=STYLES[0])
        table.add_row(name.replace("_", " "), Text(f"{points[-1]:.3f}", "bold"), curve, Text(text, "bright_black"))
    return table


def _speed(run: RunFiles, width: int) -> RenderableType | None:
    if not run.reports:
        return None
    last, table = run.reports[-1], Table.grid(padding=(0, 2))
    use = last.get("model_flops_use")
    facts = [f"{label(last.get('teraflops', 0.0))} TFLOP/s"]
    facts += [f"{use:.1%} of peak"] if use is not None else []
    facts += [f"{last['memory_gib']:.2f} GiB"] if "memory_gib" in last else []
    facts += [f"learning rate {label(last.get('learning_rate', 0.0))}"]
    facts += [f"gradient norm {label(last.get('gradient_norm', 0.0))}"]
    speeds = [value for _, value in values(run.reports, "tokens_per_second")]
    table.add_row(
        "tokens/s", Text(label(speeds[-1] if speeds else 0.0), "bold"), Text(sparkline(speeds, width), STYLES[2])
    )
    return Group(table, Text(" | ".join(facts), "bright_black"))


def _times(run: RunFiles, width: int) -> RenderableType | None:
    """The parts of a step, over the last reports, as one bar."""
    rows = [phases for row in run.reports[-LAST_REPORTS:] if (phases := seconds_by_phase(row))]
    if not rows:
        return None
    means = {name: sum(row[name] for row in rows) / len(rows) for name in PHASES}
    whole = sum(means.values())
    columns = max(10, min(100, width - 10))
    bar, names = Text(), Text(f"step {1000 * whole:,.0f} ms: ")
    for name, seconds in means.items():
        style = STYLES[PHASES[name]]
        bar.append("█" * round(columns * seconds / whole), style)
        if seconds >= 0.001 * whole:
            names.append(f"{name} ", style).append(f"{seconds / whole:.1%}  ")
    return Group(Text(), bar, names)


def _ranks(run: RunFiles, width: int) -> RenderableType | None:
    """Work of each process in the last step, the slowest first if they are many."""
    ranks = run.reports[-1].get("ranks") if run.reports else None
    if not isinstance(ranks, dict):
        return None
    times: Sequence[float] = run.reports[-1].get("rank_seconds") or []
    shown = sorted(range(len(times)), key=lambda rank: -times[rank])[:MOST_RANKS]
    ratio = ranks["slowest"] / ranks["median"] if ranks["median"] else 1.0
    slowest = f"rank {ranks['slowest_rank']} {ratio:.2f} ×"
    head = f"work without communication: median {1000 * ranks['median']:,.0f} ms, {slowest}"
    # Runs of earlier versions have no such setting.
    factor = run.config.get("watch", {}).get("slow_factor", 0)
    bars = Text()
    for rank in sorted(shown):
        share = times[rank] / max(ranks["slowest"], 1e-9)
        bars.append(f"\nrank {rank:<3} {1000 * times[rank]:>7,.0f} ms ")
        is_slow = bool(factor) and times[rank] > factor * ranks["median"]
        bars.append("█" * round(share * max(10, min(40, width - 40))), STYLES[int(is_slow)])
    return Group(Text(), Text(head).append(bars))


def _events(run: RunFiles) -> RenderableType | None:
    if not run.events:
        return None
    lines = Text(f"\n{len(run.events)} events", STYLES[4])
    for row in run.events[-MOST_EVENTS:]:
        lines.append(f"\n  {event_line(row)}", "default")
    return lines


def event_line(row: Row) -> str:
    """Return an event in one line."""
    action = f" ({row['action']})" if row.get("action") else ""
    step = f"step {row['step']}: "
    message = str(row.get("message") or row.get("kind", "event")).removeprefix(step)
    return f"{step}{message}{action}"


def _checkpoint(run: RunFiles, now: float) -> RenderableType:
    """The newest checkpoint, and how long ago it and the last report were written."""
    texts = ["no checkpoint yet"]
    for checkpoint in run.checkpoints:
        # Removed or renamed since the folder was listed.
        with suppress(FileNotFoundError):
            age = now - (checkpoint / "checkpoint.json").stat().st_mtime
            texts = [f"checkpoint {checkpoint.name}, {duration(max(0.0, age))} ago"]
    if run.end is None and (run.folder / "metrics.jsonl").exists():
        age = now - (run.folder / "metrics.jsonl").stat().st_mtime
        texts.append(f"last report {duration(max(0.0, age))} ago")
    return Text("\n" + " | ".join(texts), "bright_black")
