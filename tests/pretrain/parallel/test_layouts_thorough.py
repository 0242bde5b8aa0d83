"""More layouts that compute what one process computes, those of features together among them."""

import pytest
import torch

from sesame.pretrain.optimizers.matrices import layout_of
from tests.pretrain.parallel.layout_cases import (
    AVERAGE_LAYOUTS,
    BUDGETS,
    EXPERT_LAYOUTS,
    FAST_MUON,
    FP16_MUON,
    LAYOUTS,
    MORE_FP8_VARIANTS,
    MORE_FP16_LAYOUTS,
    MORE_VARIANTS,
    MUON_VARIANTS,
    REDUCED_LAYOUTS,
    SLOW_BUDGETS,
    SLOW_FAMILIES,
    THOROUGH,
)
from tests.pretrain.parallel.layout_comparison import (
    BOUND,
    BOUNDS,
    MUON_BOUND,
    STEPS,
    Computed,
    assert_equal,
    assert_fp8_near,
    assert_fp16_near,
    assert_near,
    assert_norms_near,
    largest_difference,
    needs_fp16,
)

pytestmark = pytest.mark.slow
CASES = THOROUGH


@pytest.mark.parametrize("layout", SLOW_BUDGETS)
def test_layout_equals_one_process(layout: str, computed: Computed) -> None:
    assert_equal(computed("one"), computed(layout))


@pytest.mark.parametrize(("layout", "run"), SLOW_FAMILIES)
def test_family_equals_one_process(layout: str, run: str, computed: Computed) -> None:
    assert_equal(computed(f"one, {run}"), computed(f"{layout}, {run}"), BOUNDS.get(run, BOUND))


@pytest.mark.parametrize("variant", MORE_VARIANTS)
def test_variant_equals_one_process(variant: str, computed: Computed) -> None:
    reference, case = MORE_VARIANTS[variant]
    assert_equal(computed(reference), computed(variant), BOUNDS.get(case.run, BOUND))


@needs_fp16
@pytest.mark.parametrize("layout", MORE_FP16_LAYOUTS)
def test_fp16_is_fp32_within_its_precision(layout: str, computed: Computed) -> None:
    assert_fp16_near(computed("one, small loss"), computed(layout))


@pytest.mark.parametrize("layout", MORE_FP8_VARIANTS)
def test_fp8_is_that_of_one_process(layout: str, computed: Computed) -> None:
    reference, case = MORE_FP8_VARIANTS[layout]
    assert_fp8_near(computed(reference), computed(layout), case)


@pytest.mark.parametrize("layout", [*(name for name in (*LAYOUTS, *BUDGETS) if name not in FAST_MUON), *MUON_VARIANTS])
def test_muon_updates_whole_matrices_in_every_layout(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


@pytest.mark.parametrize("layout", EXPERT_LAYOUTS)
def test_muon_updates_whole_experts(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, switch, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


@needs_fp16
@pytest.mark.parametrize("layout", [name for name in FP16_MUON if not name.startswith("one")])
def test_muon_in_fp16_moves_matrices_like_one_process(layout: str, computed: Computed) -> None:
    """Directions of the change: updates of two halves of a matrix instead of the whole have a cosine of 0.84 at most.

    Not of the pooler, whose gradient has one large singular value: the others are the rounding errors of fp16.
    """
    one, other = computed("one, fp16, Muon"), computed(layout)
    assert_norms_near(one, other, 2e-3)
    matrices = [name for name in one if name.startswith("0/weight/") and layout_of(name.removeprefix("0/weight/"))]
    for first in matrices:
        last = first.replace("0/", f"{STEPS - 1}/", 1)
        change, other_change = ((run[last] - run[first]).double().flatten() for run in (one, other))
        if "pooler" not in first:
            assert float(torch.cosine_similarity(change, other_change, dim=0)) > 0.99, first


@pytest.mark.parametrize("layout", AVERAGE_LAYOUTS)
def test_moving_averages_are_those_of_one_process(layout: str, computed: Computed) -> None:
    reference = computed("one, averaged")
    assert f"{STEPS - 1}/average/backbone.token_embedding.weight" in reference
    assert_equal(reference, computed(f"{layout}, averaged"))


@pytest.mark.parametrize(
    ("reference", "layout"), [*(("one", name) for name in REDUCED_LAYOUTS), ("one, switch", "expert 2, ZeRO 1")]
)
def test_gradients_are_reduced_within_the_precision_of_bf16(reference: str, layout: str, computed: Computed) -> None:
    """bf16 rounds to 8 bits, 2^-9 of a number: once each process' gradient, and once their sum."""
    one, other = computed(reference), computed(f"{layout}, reduced in bf16")
    assert_norms_near(one, other, 2**-8)
    assert_near(one, other, 2**-6)
    assert largest_difference(one, other)[0] > 1e-4, "gradients were not rounded"
