"""Damaged run files and overrides."""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.config import CorpusConfig
from sesame.evaluation.config import EvaluationConfig
from sesame.pretrain.config import RunConfig
from tests.fuzz import mutators
from tests.fuzz.harness import COUNTS, Case, failures, report

SHIPPED = Path(configs.__file__).parent
CLASSES: dict[str, type[configs.Section]] = {
    "pretrain": RunConfig,
    "corpus": CorpusConfig,
    "evaluation": EvaluationConfig,
}
FILES = {kind: sorted((SHIPPED / kind).glob("*.toml")) for kind in CLASSES}
OVERRIDES = {
    "pretrain": [
        "optimizer.learning_rate=1e-3",
        'data.dataset="a b"',
        "model.width=64",
        'resume.accept=["seed"]',
        "objectives={masked_lm = 1.0}",
        "optimizer.betas=[0.9, 0.99]",
        "output=runs/x",
        "parallel.precision=fp32",
    ],
    "corpus": [
        "source.0.weight=2.5",
        'source.paths=["a", "b"]',
        "segment.sequence_length=64",
        "clean.languages=['en']",
        "tokenizer.model=x",
    ],
    "evaluation": ["finetune.sequence_length=32", "seeds=[1, 2]", 'tasks=["CoLA"]'],
}


def text(draw: random.Random, folder: Path) -> Callable[[], Any]:
    kind = draw.choice(list(CLASSES))
    path = folder / "run.toml"
    damaged = mutators.text(draw, draw.choice(FILES[kind]).read_text(encoding="utf-8"))
    path.write_bytes(damaged.encode("utf-8", "surrogatepass"))
    return lambda: configs.load(path, CLASSES[kind]) and None


def data(draw: random.Random, folder: Path) -> Callable[[], Any]:
    kind = draw.choice(list(CLASSES))
    path = folder / "run.toml"
    path.write_bytes(mutators.data(draw, draw.choice(FILES[kind]).read_bytes()))
    return lambda: configs.load(path, CLASSES[kind]) and None


def values(draw: random.Random, folder: Path) -> Callable[[], Any]:
    kind = draw.choice(list(CLASSES))
    changed = mutators.json_value(draw, tomllib.loads(draw.choice(FILES[kind]).read_text(encoding="utf-8")))
    return lambda: _round_trip_fault(configs.parse(changed, CLASSES[kind], "run.toml"))


def overrides(draw: random.Random, folder: Path) -> Callable[[], Any]:
    kind = draw.choice(list(CLASSES))
    path = draw.choice(FILES[kind])
    key, _, value = draw.choice(OVERRIDES[kind]).partition("=")
    hostile = draw.choice(mutators.HOSTILE)()
    changed = draw.choice(
        (
            lambda: mutators.text(draw, f"{key}={value}"),
            lambda: f"{mutators.text(draw, key)}={value}",
            lambda: f"{key}={mutators.text(draw, value)}",
            lambda: f"{key}={hostile!r}",
            lambda: f"{key}={hostile}",
            lambda: f"{key}={'[' * draw.choice((50, 5000))}",
            lambda: f"{key}={'9' * draw.choice((20, 400, 5000))}",
            lambda: f"{'a.' * draw.choice((3, 500, 20_000))}b=1",
            lambda: f"{key}={value}\nseed = 3",
        )
    )()
    return lambda: configs.load(path, CLASSES[kind], [changed]) and None


def _round_trip_fault(config: configs.Section) -> str | None:
    """Return a fault if the dumped configuration is refused or differs."""
    try:
        again = configs.parse(configs.dump(config), type(config), "again")
    except ConfigError as error:
        return f"accepted, but its dump is refused: {error}"
    return None if again == config else "accepted, but its dump is a different configuration"


@pytest.mark.parametrize("target", [text, data, values, overrides], ids=lambda target: target.__name__)
@pytest.mark.parametrize("count", COUNTS)
def test_damaged_configuration(target: Case, count: int, tmp_path: Path) -> None:
    found = failures(target, tmp_path, count)
    assert not found, report(found)
