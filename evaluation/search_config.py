"""``[search]``: the settings of fine-tuning that are tried for each task."""

import itertools
from typing import Any

from pydantic import Field

from sesame.configs import Section


class SearchGrid(Section):
    """Values that are tried, all combinations; an empty one keeps the setting."""

    learning_rate: tuple[float, ...] = ()
    """Of [finetune]."""
    batch_size: tuple[int, ...] = ()
    """Of [finetune]."""
    epochs: tuple[int, ...] = ()
    """Of [finetune]."""
    weight_decay: tuple[float, ...] = ()
    """Of [finetune]."""

    def settings(self) -> list[dict[str, Any]]:
        """Return the settings of each combination."""
        tried = {name: values for name in SearchGrid.model_fields if (values := getattr(self, name))}
        return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


class SearchConfig(SearchGrid):
    """Search over settings of each task. Combinations are compared on a part of the training rows that they are not
    trained on; the dev rows are for the reported score only. The best one is then trained on all rows."""

    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training rows that are held back to compare."""
    validation_rows: int = Field(default=5000, gt=0)
    """Most rows that are held back."""
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    """Runs of each combination, whose mean is compared."""
    tasks: dict[str, SearchGrid] = Field(default_factory=dict)
    """By task: the values that differ, [search.tasks.NAME]; an empty one is that of [search]."""

    def grid(self, task: str) -> list[dict[str, Any]]:
        """Return the settings of each combination of one task."""
        own = self.tasks.get(task)
        values = {name: getattr(self, name) for name in SearchGrid.model_fields}
        if own is not None:
            values |= {name: some for name in SearchGrid.model_fields if (some := getattr(own, name))}
        return SearchGrid(**values).settings()
