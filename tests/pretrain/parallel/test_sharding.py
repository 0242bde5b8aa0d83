"""Each line of a family's SHARDING table matches layers that its style can split: a line that matches nothing would
silently leave a layer whole, and the layouts would still agree."""

import fnmatch

import pytest
from torch import nn

from sesame import configs
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel.tensor import SPLIT_SIZES
from sesame.pretrain.parallel.tensor_layers import PARALLEL_LAYERS
from tests.pretrain.family_runs import FAMILY_RUNS


def learners(family: str) -> list[Learner]:
    """Build the tiny runs of a family, plain and gated, which together have every class of its layers."""
    kind = FAMILIES[family].config
    gates = ({}, {"gated": True}) if "gated" in kind.model_fields else ({},)
    runs = [run for run in FAMILY_RUNS.values() if run.model["family"] == family]
    return [
        build(configs.parse({**run.model, **gate}, kind, "the test's model"), run.objectives, Vocabulary(320))
        for run in runs
        for gate in gates
    ]


def matched(learner: Learner, pattern: str) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in learner.named_modules() if fnmatch.fnmatchcase(name, pattern)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_line_of_the_sharding_table_splits_a_layer(family: str) -> None:
    built = learners(family)
    table = {line for learner in built for line in learner.sharding()}
    if "gated" not in FAMILIES[family].config.model_fields:
        # All Transformers share the lines of a block, and those of this family have no gate.
        table = {(pattern, style) for pattern, style in table if not pattern.endswith(".gate")}
    assert table, "nothing of this family is split"
    for pattern, style in table:
        assert style in SPLIT_SIZES, f"{pattern}: '{style}' is not a style of the table in pretrain/parallel/tensor.py"
        layers = [part for learner in built for part in matched(learner, pattern)]
        assert layers, f"{pattern}: matches no layer of the runs in tests/pretrain/family_runs.py"
        for name, part in layers:
            assert (style, type(part)) in PARALLEL_LAYERS, (
                f"{name}: a {type(part).__name__} cannot be split as '{style}'"
            )
