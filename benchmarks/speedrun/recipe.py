"""A recipe: one TOML file with what a competitor chooses; the rules set the rest.

    kind = "sesame"
    about = "one sentence"

    [corpora.short]          # sections of `sesame prepare`, by a name of your choice; the first is read first
    tokenizer.vocabulary_size = 8192

    [pretrain]               # sections of `sesame pretrain`
    data.global_batch = 64

A file may begin with ``base = "NAME"``, another recipe of its folder: then it has what differs, table by table, and
``remove`` lists the dotted keys that the base has and it has not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from benchmarks.speedrun.tracks import TRACKS
from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.storage import digest_of, write_text
from sesame.configs.toml_text import to_toml

FIXED = {
    "corpora": ("output", "seed", "source", "clean", "workers"),
    "pretrain": ("output", "seed", "steps", "stop", "initial_checkpoint", "checkpoint", "report", "resume"),
}
"""Keys that the rules set, by table."""


class Choice(Section):
    """A setting whose value is chosen by training with each and comparing validation losses."""

    key: str
    """Dotted, as ``optimizer.learning_rate``."""
    values: tuple[Any, ...] = Field(min_length=2)
    share: float = Field(default=1.0, gt=0, le=1)
    """Of the steps that each value is trained with; below 1, the best one is trained again with all of them."""


class Recipe(Section):
    """The content of a recipe's file."""

    kind: Literal["sesame", "transformers"] = "sesame"
    """What trains: a row of ``trainers.TRAINERS``."""
    about: str
    """What is special, for the table."""
    tracks: tuple[str, ...] = ()
    """Tracks that it is made for; a queue leaves it out of others. Empty: all."""
    steps: int | None = Field(default=None, gt=0)
    """Optimizer steps that use up a track's minutes on its machine; unset: they are found by a short run."""
    averaged: bool = False
    """Evaluate the moving average of the weights, which ``pretrain.optimizer.average_decay`` keeps; making a checkpoint
    of it takes seconds and is not counted."""
    choose: Choice | None = None
    """The first seed is trained with each value, and the one with the lowest validation loss is used. The time of the
    others is not counted: it helps the baselines, for which it is meant."""
    corpora: dict[str, dict[str, Any]] = Field(min_length=1)
    """By name: the sections [tokenizer], [segment], [corrupt] and [shards] of ``sesame prepare``. All but the first use
    the first one's tokenizer."""
    pretrain: dict[str, Any]
    """Settings of the trainer. ``data.stages`` name corpora in place of folders."""

    @model_validator(mode="after")
    def _tracks_exist(self) -> "Recipe":
        unknown = [name for name in self.tracks if name not in TRACKS]
        if unknown:
            raise ValueError(f"tracks names {unknown[0]!r}; the tracks are {', '.join(TRACKS)}")
        return self

    @model_validator(mode="after")
    def _rules_are_kept(self) -> "Recipe":
        tables = {"pretrain": self.pretrain, **{f"corpora.{name}": each for name, each in self.corpora.items()}}
        for table, values in tables.items():
            for key in FIXED[table.partition(".")[0]]:
                if key in values:
                    raise ValueError(f"{table}.{key} is set by the rules of the speedrun; remove it")
        if self.kind == "sesame" and "dataset" in self.pretrain.get("data", {}):
            raise ValueError("pretrain.data.dataset is the first of [corpora]; remove it")
        if self.averaged and not self.pretrain.get("optimizer", {}).get("average_decay"):
            raise ValueError(
                "averaged is true, but pretrain.optimizer.average_decay is not set; set it, 0.99 for example"
            )
        for stage in self.pretrain.get("data", {}).get("stages", ()):
            if stage.get("dataset") not in self.corpora:
                raise ValueError(
                    f"pretrain.data.stages names {stage.get('dataset')!r}, but the corpora are "
                    f"{', '.join(self.corpora)}; name one of them"
                )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all values."""
        return digest_of(json.dumps(configs.dump(self), sort_keys=True).encode())

    def with_value(self, value: Any) -> "Recipe":
        """Return the recipe with one value of its choice."""
        assert self.choose is not None
        return self.model_copy(update={"pretrain": with_key(self.pretrain, self.choose.key, value), "choose": None})


def load_recipe(path: Path) -> Recipe:
    """Read a recipe, with what it has of its base.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    return configs.parse(_values(path, ()), Recipe, str(path))


def _values(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise ConfigError(f"{path}: is its own base; remove 'base' from one of the recipes")
    values = configs.read(path)
    base, removed = values.pop("base", None), values.pop("remove", [])
    if base is None:
        return values
    merged = _merged(_values(path.with_name(f"{base}.toml"), (*above, path)), values)
    for key in removed:
        _remove(merged, key, path)
    return merged


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``, which replace what is no table."""
    merged = dict(base)
    for key, value in changes.items():
        below = base.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _remove(values: dict[str, Any], key: str, path: Path) -> None:
    *tables, last = key.split(".")
    inner: Any = values
    for table in tables:
        inner = inner.get(table, {}) if isinstance(inner, dict) else {}
    if not isinstance(inner, dict) or last not in inner:
        raise ConfigError(f"{path}: 'remove' names {key}, which its base does not have; correct it")
    del inner[last]


def with_key(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return ``values`` with one dotted key set."""
    first, _, rest = key.partition(".")
    inner = values.get(first, {})
    if rest and not isinstance(inner, Mapping):
        raise ConfigError(f"choose.key {key}: {first} is not a table; name a setting of [pretrain]")
    return {**values, first: with_key(inner, rest, value) if rest else value}


def write_toml(path: Path, values: Mapping[str, Any]) -> None:
    """Write a complete configuration."""
    write_text(path, to_toml(values))
