"""Values written as TOML are read again as the same values."""

import random
import tomllib
from typing import Any

import pytest

from sesame import configs
from sesame.configs.shipped import FOLDER
from sesame.configs.toml_text import to_toml
from sesame.evaluation.config import EvaluationConfig

WORDS = [
    "plain",
    "a b",
    'quo"te',
    "back\\slash",
    "line\nend\ttab",
    "汉字",
    "",
    "\x7f\x01",
    "dotted.key",
    "'",
    "[x]",
    "#",
]


def _random(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(6 if depth else 4)
    if kind < 4:
        return (draw.choice(WORDS), draw.randint(-(10**12), 10**12), draw.uniform(-1, 1) ** 9, draw.random() < 0.5)[
            kind
        ]
    if kind == 4:
        return [_random(draw, depth - 1) for _ in range(draw.randrange(4))]
    return {draw.choice(WORDS): _random(draw, depth - 1) for _ in range(draw.randrange(4))}


@pytest.mark.parametrize("seed", range(60))
def test_random_values_are_read_again(seed: int) -> None:
    draw = random.Random(seed)
    values = {draw.choice(WORDS): _random(draw, 3) for _ in range(5)}
    assert tomllib.loads(to_toml(values)) == values


def test_small_and_large_numbers_and_nothing() -> None:
    values = {"a": 1e-05, "b": 1e22, "c": {"d": None, "e": 0.1}}
    assert tomllib.loads(to_toml(values)) == {"a": 1e-05, "b": 1e22, "c": {"e": 0.1}}


@pytest.mark.parametrize("path", sorted((FOLDER / "evaluation").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_suites_are_read_again(path: Any) -> None:
    config = configs.load(path, EvaluationConfig)
    assert configs.parse(tomllib.loads(to_toml(configs.dump(config))), EvaluationConfig, "again") == config
