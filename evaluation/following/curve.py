"""``curve.json``: the scores of a run's checkpoints, and ``curve.png`` and ``curve.svg``, which draw them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from sesame.configs.storage import atomic_file, write_text
from sesame.evaluation.following.seen import Seen

NAME = "curve"
LOG_RATIO = 20.0
"""Horizontal values that differ more get a logarithmic axis."""
TITLES = {"steps": "optimizer steps", "sequences": "rows seen", "tokens": "tokens seen", "words": "words seen"}
Scores = Mapping[str, Any]
"""A row of ``report.json``: the values of each model."""


class Point(NamedTuple):
    """One scored checkpoint."""

    seen: Seen
    record_sha256: str
    """Of the checkpoint's record: a run that goes back writes another checkpoint of the same step."""
    report: str
    """Folder of its report, below that of the curve."""
    mean: Scores
    tasks: Mapping[str, Scores]
    """By title."""

    def to_json(self) -> dict[str, Any]:
        rest = {name: value for name, value in self._asdict().items() if name != "seen"}
        return {**self.seen._asdict(), **rest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Point":
        seen = Seen(*(values[name] for name in Seen._fields))
        return cls(seen, *(values[name] for name in cls._fields[1:]))

    @property
    def text(self) -> str:
        """The medians in words."""
        medians = {"mean": self.mean, **self.tasks}
        return ", ".join(f"{title} {_number(scores)}" for title, scores in medians.items())


class Curve:
    """The points of a run by step, in a folder."""

    def __init__(self, folder: Path, settings: str, files: str):
        """Read the points that were written with the same settings and task files.

        Args:
            settings: hash of all settings that the scores depend on.
            files: hash of the task files.
        """
        self.folder, self.identity = folder, {"settings": settings, "files": files}
        self.points: dict[int, Point] = {}
        self.dropped = 0
        """Points that were written with other settings or task files."""
        try:
            values = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
            points = [Point.from_json(each) for each in values["points"]]
        except (OSError, ValueError, KeyError, TypeError):
            return
        # Earlier versions did not write the hash of the files.
        if {"files": files, **values}.items() >= self.identity.items():
            self.points = {point.seen.steps: point for point in points}
        else:
            self.dropped = len(points)

    def add(self, point: Point, unit: str) -> None:
        """Add a point, or replace that of its step, and write all files.

        Args:
            unit: field of :class:`Seen` for the horizontal axis; steps if it is not known of all points.
        """
        self.points = dict(sorted({**self.points, point.seen.steps: point}.items()))
        points = list(self.points.values())
        unit = unit if all(getattr(each.seen, unit) is not None for each in points) else "steps"
        values = {**self.identity, "unit": unit, "points": [each.to_json() for each in points]}
        write_text(self.folder / f"{NAME}.json", json.dumps(values, indent=2) + "\n")
        figure = _draw(points, unit)
        for suffix in ("png", "svg"):
            with atomic_file(self.folder / f"{NAME}.{suffix}") as file:
                figure.savefig(file, format=suffix)


def _draw(points: list[Point], unit: str) -> Figure:
    """A line for each task, the median over seeds, with a band from the smallest to the largest; dashed: random."""
    figure = Figure(figsize=(8.0, 4.8), dpi=130, layout="constrained")
    axes = figure.subplots()
    across = [float(getattr(point.seen, unit)) for point in points]
    titles = list(dict.fromkeys(title for point in points for title in point.tasks))
    rows = {title: [point.tasks.get(title, {}) for point in points] for title in titles}
    if len(titles) > 1:
        rows["mean"] = [point.mean for point in points]
    for title, scores in rows.items():
        drawn = [(x, each["pretrained"]) for x, each in zip(across, scores, strict=True) if _median(each) is not None]
        if not drawn:
            continue
        places = [x for x, _ in drawn]
        [line] = axes.plot(places, [each["median"] for _, each in drawn], marker="o", markersize=3.5, label=title)
        if title == "mean":
            line.set(color="black", linewidth=2.4)
        seeds = [[value for value in each["by_seed"] if value is not None] for _, each in drawn]
        axes.fill_between(places, list(map(min, seeds)), list(map(max, seeds)), color=line.get_color(), alpha=0.13)
        if (baseline := _median(scores[-1], "random")) is not None:
            axes.axhline(baseline, color=line.get_color(), linestyle="dashed", linewidth=0.9)
    if min(across) > 0 and max(across) > LOG_RATIO * min(across):
        axes.set_xscale("log")
    axes.set_xlabel(TITLES[unit])
    axes.set_ylabel("dev score, times 100: median over seeds")
    axes.grid(color="#e3e3e3")
    axes.spines[["top", "right"]].set_visible(False)
    if any(_median(each, "random") is not None for scores in rows.values() for each in scores):
        axes.plot([], [], color="#777777", linestyle="dashed", linewidth=0.9, label="random-init baseline")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _median(scores: Scores, model: str = "pretrained") -> float | None:
    return scores.get(model, {}).get("median")


def _number(scores: Scores) -> str:
    median = _median(scores)
    return "undefined" if median is None else f"{median:.1f}"
