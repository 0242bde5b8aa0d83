"""Which objectives a family can be trained with is told before anything is read."""

from collections.abc import Callable
from typing import Any

import pytest

import configs
from configs.errors import ConfigError
from pretrain.config import RunConfig
from pretrain.models import FAMILIES
from pretrain.objectives import OBJECTIVES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_is_taken_where_the_family_provides_for_it(
    family: str, objective: str, settings: Callable[..., dict[str, Any]]
) -> None:
    values = settings() | {"model": {"family": family}, "objectives": {objective: 1.0}}
    if OBJECTIVES[objective].needs in FAMILIES[family].module.provides:
        assert configs.parse(values, RunConfig, "run.toml").model.family == family
    else:
        with pytest.raises(ConfigError, match=rf"objectives\.{objective} does not fit model\.family '{family}'; those"):
            configs.parse(values, RunConfig, "run.toml")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_trained(family: str) -> None:
    provided = FAMILIES[family].module.provides
    assert any(objective.predicts_tokens and objective.needs in provided for objective in OBJECTIVES.values())
