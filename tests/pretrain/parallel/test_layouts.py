"""Every layout computes what one process computes: losses, gradient norms, gradients and updated weights.

More layouts are compared in ``test_layouts_thorough.py``.
"""

import pytest

from sesame.pretrain.models import FAMILIES
from tests.pretrain.family_runs import FAMILY_RUNS
from tests.pretrain.parallel.layout_cases import (
    BUDGET_RUNS,
    EXPERT_BF16_LAYOUTS,
    EXPERT_LAMB_LAYOUTS,
    EXPERT_LAYOUTS,
    FAMILY_LAYOUTS,
    FAST,
    FAST_EXPERT_MUON,
    FAST_FAMILIES,
    FAST_LAYOUTS,
    FAST_MUON,
    FP8_VARIANTS,
    FP16_LAYOUTS,
    OPTIMIZERS,
    OTHER_LAYOUTS,
    VARIANTS,
)
from tests.pretrain.parallel.layout_comparison import (
    BOUND,
    BOUNDS,
    MUON_BOUND,
    Computed,
    Recorded,
    assert_equal,
    assert_fp8_near,
    assert_fp16_near,
    assert_near,
    assert_norms_near,
    needs_fp16,
)

CASES = FAST
BF16_TOLERANCE = 0.02


@pytest.mark.parametrize("layout", FAST_LAYOUTS)
def test_layout_equals_one_process(layout: str, computed: Computed) -> None:
    assert_equal(computed("one"), computed(layout))


@pytest.mark.parametrize("layout", FAMILY_LAYOUTS)
def test_z_loss_is_of_the_whole_vocabulary(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, z-loss"), computed(f"{layout}, z-loss"))
    plain, penalized = (float(computed(case)["0/loss/masked_lm"]) for case in ("one", "one, z-loss"))
    assert penalized > plain + 0.5, "log Z is above 5"


def test_every_family_has_a_run() -> None:
    without = set(FAMILIES) - {run.model["family"] for run in FAMILY_RUNS.values()}
    assert not without, f"add a tiny run of {', '.join(without)} to tests/pretrain/family_runs.py"


@pytest.mark.parametrize(("layout", "run"), FAST_FAMILIES)
def test_family_equals_one_process(layout: str, run: str, computed: Computed) -> None:
    assert_equal(computed(f"one, {run}"), computed(f"{layout}, {run}"), BOUNDS.get(run, BOUND))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_equals_one_process(variant: str, computed: Computed) -> None:
    reference, case = VARIANTS[variant]
    assert_equal(computed(reference), computed(variant), BOUNDS.get(case.run, BOUND))


@pytest.mark.parametrize("run", BUDGET_RUNS)
def test_a_token_budget_changes_nothing(run: str, computed: Computed) -> None:
    assert_equal(computed(f"one, {run}"), computed(f"token budget, {run}"), BOUNDS.get(run, BOUND))


@needs_fp16
@pytest.mark.parametrize("layout", FP16_LAYOUTS)
def test_fp16_is_fp32_within_its_precision(layout: str, computed: Computed) -> None:
    assert_fp16_near(computed("one, small loss"), computed(layout))


@pytest.mark.parametrize("layout", FP8_VARIANTS)
def test_fp8_is_that_of_one_process(layout: str, computed: Computed) -> None:
    reference, case = FP8_VARIANTS[layout]
    assert_fp8_near(computed(reference), computed(layout), case)


@pytest.mark.parametrize("layout", EXPERT_LAYOUTS)
def test_expert_parallelism_equals_one_process(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, switch"), computed(layout))


@pytest.mark.parametrize("layout", EXPERT_LAMB_LAYOUTS)
def test_lamb_uses_norms_of_whole_expert_tensors(layout: str, computed: Computed) -> None:
    assert_near(computed("one, switch, LAMB"), computed(f"{layout}, LAMB"), 1e-3)


@pytest.mark.parametrize("layout", FAST_MUON)
def test_muon_updates_whole_matrices(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


@pytest.mark.parametrize("layout", FAST_EXPERT_MUON)
def test_muon_updates_whole_experts(layout: str, computed: Computed) -> None:
    assert_equal(computed("one, switch, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


def test_muon_updates_whole_gates_and_filters(computed: Computed) -> None:
    assert_equal(computed("one, elmo, Muon"), computed("tensor 2 x data 2, ZeRO 3, elmo, Muon"), MUON_BOUND)


def _without_noise(recorded: Recorded, kind: str) -> Recorded:
    """Leave out the key bias under Adafactor, whose epsilon is too small for a gradient that is rounding errors."""
    return {name: value for name, value in recorded.items() if kind != "Adafactor" or "attention.key.bias" not in name}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_other_optimizers_make_the_same_update_in_every_layout(layout: str, kind: str, computed: Computed) -> None:
    """They divide by the root of the second moment, which amplifies rounding errors; a norm over a flat buffer instead
    of a parameter would give a difference of more than 1."""
    one, other = (_without_noise(computed(f"{case}, {kind}"), kind) for case in ("one", layout))
    assert_near(one, other, 1e-3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_norm_is_right_under_tensor_parallelism(stage: int, computed: Computed) -> None:
    one, split = (computed(f"{layout}, bf16, ZeRO {stage}") for layout in ("one", "tensor 2"))
    assert_norms_near(one, split, BF16_TOLERANCE)


@pytest.mark.parametrize("layout", EXPERT_BF16_LAYOUTS)
def test_bf16_norm_counts_every_expert_once(layout: str, computed: Computed) -> None:
    assert_norms_near(computed("one, switch, bf16"), computed(f"{layout}, bf16"), BF16_TOLERANCE)
