"""The table of what was tried: each recipe against one of them, after equal minutes of the same track."""

from collections.abc import Sequence
from itertools import groupby

from benchmarks.speedrun.record import SEEDS, Record

BASELINE = "muon"
SIMILAR_MINUTES = 0.1
"""Share by which the minutes that two recipes used may differ: with --steps they are what was asked for."""
HEAD = (
    "track", "minutes", "recipe", "what differs", "seeds", "steps", "words seen", "nats per word", "gain", "verdict",
    "BLiMP in one pass", "gain", "remarks",
)  # fmt: skip
BLIMP = "BLiMP"


def table(trials: Sequence[Record], baseline: str = BASELINE) -> str:
    """Return the trials in Markdown; the ones that compare with each other are together, the best first.

    Args:
        baseline: the recipe that gains are against.
    """
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for _, found in groupby(sorted(_latest(trials), key=_conditions), key=_conditions):
        group = sorted(found, key=lambda trial: trial.nats_per_word.mean)
        against = next((trial for trial in group if trial.recipe == baseline), None)
        lines += [_line(trial, against) for trial in group]
    return "\n".join(lines)


def verdict(trial: Record, baseline: Record) -> str:
    """Say whether the mean of a trial's nats differs from the baseline's by more than both ranges over seeds."""
    if min(len(trial.runs), len(baseline.runs)) < SEEDS:
        return "too few seeds"
    if abs(trial.longest_minutes / baseline.longest_minutes - 1) > SIMILAR_MINUTES:
        return "other minutes"
    nats, against = trial.nats_per_word, baseline.nats_per_word
    if abs(nats.mean - against.mean) <= max(nats.spread, against.spread):
        return "within the spread"
    return "better" if nats.mean < against.mean else "worse"


def _conditions(trial: Record) -> tuple[object, ...]:
    """What trials must share to be compared; the longest budgets are the last."""
    return trial.track, trial.minutes, trial.text_sha256, trial.held_out_sha256, trial.processor, trial.threads


def _latest(trials: Sequence[Record]) -> list[Record]:
    """Return the last trial of each recipe under the same conditions."""
    return list({(trial.recipe, *_conditions(trial)): trial for trial in trials}.values())


def _line(trial: Record, against: Record | None) -> str:
    nats, blimp = trial.nats_per_word, trial.scores.get(BLIMP)
    cells = [trial.track, f"{trial.longest_minutes:.1f}", trial.recipe, trial.about, str(len(trial.runs))]
    cells += [str(trial.runs[0].steps), f"{trial.words / 1e6:.1f} M", nats.with_decimals(3)]
    if against is None:
        cells += ["", "", str(blimp or ""), ""]
    elif trial is against:
        cells += ["", "baseline", str(blimp or ""), ""]
    else:
        known = against.scores.get(BLIMP)
        gain = f"{blimp.mean - known.mean:+.1f}" if blimp and known else ""
        cells += [f"{against.nats_per_word.mean - nats.mean:+.3f}", verdict(trial, against)]
        cells += [str(blimp or ""), gain]
    cells.append("; ".join(trial.remarks))
    return f"| {' | '.join(cells)} |"
