"""Each line of a family's SHARDING names layers that exist and that its word can split: a line that matches nothing
would leave a layer whole without a word, and the layouts would still agree."""

import fnmatch

import pytest
from torch import nn

import configs
from pretrain.learner import Learner, build
from pretrain.models import FAMILIES
from pretrain.models.family import Vocabulary
from pretrain.parallel.tensor import COUNTED
from pretrain.parallel.tensor_layers import SWAPS
from tests.pretrain.family_runs import FAMILY_RUNS


def learners(family: str) -> list[Learner]:
    """The tiny runs of a family, as they are and gated, which together have each kind of its layers."""
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
def test_every_line_of_the_plan_splits_something(family: str) -> None:
    built = learners(family)
    plan = {line for learner in built for line in learner.sharding()}
    if "gated" not in FAMILIES[family].config.model_fields:
        # All Transformers share the lines of a block, and these have never a gate.
        plan = {(pattern, word) for pattern, word in plan if not pattern.endswith(".gate")}
    assert plan, "nothing of this family is split"
    for pattern, word in plan:
        assert word in COUNTED, f"{pattern}: '{word}' is no word of the table in pretrain/parallel/tensor.py"
        found = [part for learner in built for part in matched(learner, pattern)]
        assert found, f"{pattern}: matches no layer of the runs in tests/pretrain/family_runs.py"
        for name, part in found:
            assert (word, type(part)) in SWAPS, f"{name}: a {type(part).__name__} cannot be split as '{word}'"
