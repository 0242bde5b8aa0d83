"""Search over the settings of each task, by scores on a part of the training rows that is held back.

The dev rows, on which the reported scores are, are not read: a setting chosen on them would be scored too high.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sesame import configs
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.selection import border, shuffled
from sesame.evaluation.results.result import Job, Result
from sesame.evaluation.search_config import SearchConfig
from sesame.evaluation.starting import Jobs

SPLIT_SEED = 20180421
"""Of the rows that are held back, another one than that of rows that are left out."""


@dataclass(frozen=True)
class Tried:
    """One combination of settings."""

    settings: dict[str, Any]
    scores: tuple[float, ...]
    """Mean of the task's metrics on the held-back rows, by seed of the search; NaN where training diverged."""

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Searched:
    """The search for one task."""

    tried: tuple[Tried, ...]
    train_rows: int
    held_back_rows: int

    @property
    def chosen(self) -> Tried:
        """The best combination, the first of equally good ones; the first if all of them diverged."""
        return max(self.tried, key=lambda each: -math.inf if math.isnan(each.score) else each.score)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; scores are fractions, None where training diverged."""
        tried = [
            {
                "settings": each.settings,
                "score": None if math.isnan(each.score) else each.score,
                "runs": len(each.scores),
            }
            for each in self.tried
        ]
        sizes = {"train_rows": self.train_rows, "held_back_rows": self.held_back_rows}
        return {"tried": tried, "chosen": self.chosen.settings, **sizes}


def search(
    config: EvaluationConfig, tasks: Sequence[TaskData], jobs: Jobs, run: Callable[[list[Job]], list[Result]]
) -> tuple[EvaluationConfig, dict[str, Searched]]:
    """Try the combinations of [search] with the pretrained model.

    Args:
        run: computes jobs, and returns their results in the same order.

    Returns:
        The configuration with the chosen settings of each task, and the searches by name of the task.
    """
    searches: dict[str, Searched] = {}
    for has_start in (False, True):
        # A task that starts from another one starts with what was chosen for that.
        some = [data for data in tasks if (data.task.starts_from is not None) == has_start]
        config, found = _search(config, some, jobs.using(config), run)
        searches |= found
    return config, searches


def _search(
    config: EvaluationConfig, tasks: Sequence[TaskData], jobs: Jobs, run: Callable[[list[Job]], list[Result]]
) -> tuple[EvaluationConfig, dict[str, Searched]]:
    if config.search is None:
        return config, {}
    searched = [data for data in tasks if data.train is not None and config.search.grid(data.task.name) != [{}]]
    # Once for each task: all of its combinations have the same rows, whose digests are computed once.
    parts = {data.task.name: held_back(data, config.search) for data in searched}
    plan = [
        (name, changes, _titled(part, changes), seed)
        for name, part in parts.items()
        for changes in config.search.grid(name)
        for seed in config.search.seeds
    ]
    if not plan:
        return config, {}
    results = run(
        [jobs.make(data, config.settings(name, changes), "pretrained", seed) for name, changes, data, seed in plan]
    )
    found: dict[str, dict[str, Tried]] = {}
    for (name, changes, _, _), result in zip(plan, results, strict=True):
        earlier = found.setdefault(name, {}).get(str(changes), Tried(changes, ()))
        score = float(np.mean(list(result.scores.values())))
        found[name][str(changes)] = replace(earlier, scores=(*earlier.scores, score))
    searches = {name: Searched(tuple(tried.values()), *_sizes(parts[name])) for name, tried in found.items()}
    values = configs.dump(config)
    for name, each in searches.items():
        values["tasks"][name] = {**values["tasks"].get(name, {}), **each.chosen.settings}
    return configs.parse(values, EvaluationConfig, "the suite"), searches


def held_back(data: TaskData, config: SearchConfig) -> TaskData:
    """Return the training rows in two parts: to train on, and in the place of the dev rows; without test rows."""
    assert data.train is not None
    train = data.train
    rows, units = shuffled(train.rows, train.groups, np.random.default_rng(SPLIT_SEED))
    count = border(units, min(config.validation_rows, max(1, round(config.validation_fraction * train.rows))))
    return replace(
        data,
        train=train.take(np.sort(rows[count:])),
        dev={data.task.counted[0]: train.take(np.sort(rows[:count]))},
        test={},
    )


def _titled(data: TaskData, changes: dict[str, Any]) -> TaskData:
    """The same rows, with the settings in the title."""
    settings = ", ".join(f"{name} {value:g}" for name, value in changes.items())
    return replace(data, title=f"{data.title}, search: {settings}")


def _sizes(data: TaskData) -> tuple[int, int]:
    assert data.train is not None
    return data.train.rows, next(iter(data.dev.values())).rows
