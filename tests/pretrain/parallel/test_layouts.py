"""Every layout computes what one process computes: losses, gradient norms, gradients and updated weights.

SGD is compared, not Adam: Adam divides by the root of the second moment, so where a gradient is zero in theory (the key
bias: softmax does not change when the same number is added to all its inputs) it turns rounding errors into steps of
full size. SGD keeps the size of differences. For the same reason the key bias is compared relative to the scale of the
query bias.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from sesame.pretrain import precision
from sesame.pretrain.models import FAMILIES
from tests.pretrain.family_runs import FAMILY_RUNS

PROCESS = Path(__file__).with_name("layout_process.py")
STEPS = 3
BOUND = 1e-6
BOUNDS = {"bert, GPT-BERT": 3e-6}
"""Of runs whose rounding errors are larger: norms on what layers add divide by its size, which is small at the start.
An error of a layout would be a thousand times as large."""
MUON_BOUND = 1e-5
"""Small singular values of a momentum, and the rounding errors in them, are multiplied by up to 3.4445^5 = 485 before
they become a step; an update of a part of a matrix instead of the whole would differ by more than 1e-2."""

SGD: dict[str, Any] = {"name": "sgd"}
LAMB = {"name": "lamb", "learning_rate": 0.01, "epsilon": 1e-3}


class Case(NamedTuple):
    processes: int
    parallel: dict[str, Any]
    optimizer: dict[str, Any]
    run: str = "bert"
    """Row of ``FAMILY_RUNS``."""
    loss: dict[str, Any] | None = None
    """The section [loss]."""
    model: dict[str, Any] = {}  # noqa: RUF012
    """Changes of its model."""
    data: Mapping[str, Any] = MappingProxyType({})
    loss_weight: float = 1.0


BUDGET = {"micro_batch": 0, "micro_tokens": 200}
LAYOUTS = {
    "data 2, ZeRO 0": Case(2, {"zero_stage": 0}, SGD),
    "data 2, ZeRO 1": Case(2, {"zero_stage": 1}, SGD),
    "data 2, ZeRO 2": Case(2, {"zero_stage": 2}, SGD),
    "data 2, ZeRO 3": Case(2, {"zero_stage": 3}, SGD),
    "tensor 2, ZeRO 0": Case(2, {"tensor": 2, "zero_stage": 0}, SGD),
    "tensor 2, ZeRO 1": Case(2, {"tensor": 2, "zero_stage": 1}, SGD),
    "tensor 2 x data 2, ZeRO 0": Case(4, {"tensor": 2, "zero_stage": 0}, SGD),
    "tensor 2 x data 2, ZeRO 1": Case(4, {"tensor": 2, "zero_stage": 1}, SGD),
    "tensor 2 x data 2, ZeRO 2": Case(4, {"tensor": 2, "zero_stage": 2}, SGD),
    "tensor 2 x data 2, ZeRO 3": Case(4, {"tensor": 2, "zero_stage": 3}, SGD),
    "token budget, ZeRO 0": Case(1, {"zero_stage": 0}, SGD, data=BUDGET),
    "token budget, ZeRO 1": Case(1, {"zero_stage": 1}, SGD, data=BUDGET),
    **{
        f"token budget, data 2, ZeRO {stage}": Case(2, {"zero_stage": stage}, SGD, data=BUDGET)
        for stage in (0, 1, 2, 3)
    },
    "token budget, tensor 2, ZeRO 1": Case(2, {"tensor": 2, "zero_stage": 1}, SGD, data=BUDGET),
}
DROPOUT: dict[str, Any] = {"dropout": 0.2}
SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
OFFLOAD: dict[str, Any] = {"zero_stage": 2, "offload": "optimizer"}
VARIANTS: dict[str, tuple[str, Case]] = {
    "data 2, ZeRO 3, parameters in host memory": ("one", Case(2, {"zero_stage": 3, "offload": "parameters"}, SGD)),
    "tensor 2, sequence, dropout": ("one, dropout", Case(2, {**SEQUENCE, "zero_stage": 1}, SGD, model=DROPOUT)),
    "tensor 2 x data 2, sequence": (
        "one, switch",
        Case(4, {**SEQUENCE, "zero_stage": 2}, SGD, "switch"),
    ),
}
"""Name -> the case that it equals, and the case: layouts of which each world of processes runs a few."""
THOROUGH: dict[str, tuple[str, Case]] = {
    "data 2, ZeRO 1, offload": ("one", Case(2, {"zero_stage": 1, "offload": "optimizer"}, SGD)),
    "tensor 2, sequence, ZeRO 2, offload": ("one", Case(2, {**SEQUENCE, **OFFLOAD}, SGD)),
    "tensor 2 x data 2, ZeRO 3, offload": ("one", Case(4, {"tensor": 2, "zero_stage": 3, "offload": "optimizer"}, SGD)),
    "tensor 2, sequence, ZeRO 0": ("one", Case(2, {**SEQUENCE, "zero_stage": 0}, SGD)),
    "tensor 2, sequence, recompute": ("one", Case(2, {**SEQUENCE, "recompute": "block"}, SGD)),
    "tensor 2, recompute of attention": ("one", Case(2, {"tensor": 2, "recompute": "attention"}, SGD)),
    "tensor 2 x data 2, sequence, ZeRO 2": ("one", Case(4, {**SEQUENCE, "zero_stage": 2}, SGD)),
    "tensor 2 x data 2, sequence, ZeRO 3": ("one", Case(4, {**SEQUENCE, "zero_stage": 3}, SGD)),
    "tensor 2 x expert 2, sequence": ("one, switch", Case(4, {**SEQUENCE, "expert": 2}, SGD, "switch")),
    **{
        f"tensor 2, sequence, recompute, {run}": (f"one, {run}", Case(2, {**SEQUENCE, "recompute": "block"}, SGD, run))
        for run in FAMILY_RUNS
        if run not in ("bert", "elmo")
    },
}
"""More of them, run with ``-m slow``."""
FAMILY_LAYOUTS = ["tensor 2, ZeRO 1", "tensor 2 x data 2, ZeRO 3"]
OTHER_RUNS = [run for run in FAMILY_RUNS if run != "bert"]
"""BERT is compared in all layouts, the others in two."""
BUDGET_RUNS = [run for run in OTHER_RUNS if run != "switch"]
"""Switch's capacity and balance are those of a micro-batch (``tests/pretrain/data/test_token_budget.py``)."""
ADAFACTOR = {"name": "adafactor", "learning_rate": 0.01}
ADAGRAD = {"name": "adagrad", "learning_rate": 0.2}
OPTIMIZERS = {"LAMB": LAMB, "Adafactor": ADAFACTOR, "Adagrad": ADAGRAD}
Z_LOSS = {"z_loss": 0.1}
MUON = {"name": "muon", "learning_rate": 0.01, "epsilon": 1e-3}
MUON_LAYOUTS = [*LAYOUTS]
"""A whole update needs whole matrices, so that it is compared in every layout."""
FAST_MUON = ["data 2, ZeRO 1", "data 2, ZeRO 3", "tensor 2 x data 2, ZeRO 2", "expert 2, ZeRO 1"]
"""Those of them, and of experts, that every change is tested in."""
OTHER_LAYOUTS = ["data 2, ZeRO 1", "data 2, ZeRO 3", "tensor 2 x data 2, ZeRO 2"]
EXPERT_LAYOUTS = {
    "expert 2, ZeRO 0": Case(2, {"expert": 2, "zero_stage": 0}, SGD, "switch"),
    "expert 2, ZeRO 1": Case(2, {"expert": 2, "zero_stage": 1}, SGD, "switch"),
    "expert 2, ZeRO 2": Case(2, {"expert": 2, "zero_stage": 2}, SGD, "switch"),
    "expert 2 of data 4, ZeRO 0": Case(4, {"expert": 2, "zero_stage": 0}, SGD, "switch"),
    "expert 2 of data 4, ZeRO 2": Case(4, {"expert": 2, "zero_stage": 2}, SGD, "switch"),
    "tensor 2 x expert 2, ZeRO 0": Case(4, {"tensor": 2, "expert": 2, "zero_stage": 0}, SGD, "switch"),
    "tensor 2 x expert 2, ZeRO 1": Case(4, {"tensor": 2, "expert": 2, "zero_stage": 1}, SGD, "switch"),
}
"""Expert parallelism of Switch; its capacity factor is 1, so that tokens are dropped."""
EXPERT_LAMB_LAYOUTS = ["expert 2, ZeRO 0", "expert 2 of data 4, ZeRO 2"]
EXPERT_BF16_LAYOUTS = ["expert 2, ZeRO 1", "expert 2 of data 4, ZeRO 2", "tensor 2 x expert 2, ZeRO 1"]
FP16_LAYOUTS = {
    f"{name}, fp16": case._replace(parallel={**case.parallel, "precision": "fp16"}, loss_weight=0.25)
    for name, case in {
        "one": Case(1, {"zero_stage": 1}, SGD),
        "data 2, ZeRO 3": LAYOUTS["data 2, ZeRO 3"],
        "tensor 2, ZeRO 2, sequence, offload": Case(2, {**SEQUENCE, **OFFLOAD}, SGD),
    }.items()
}
"""With a small loss, so that no gradient overflows at the first loss scale."""
CASES = {
    "one, small loss": Case(1, {"zero_stage": 1}, SGD, loss_weight=0.25),
    **FP16_LAYOUTS,
    "one, dropout": Case(1, {"zero_stage": 1}, SGD, model=DROPOUT),
    **{name: case for name, (_, case) in {**VARIANTS, **THOROUGH}.items()},
    "one": Case(1, {"zero_stage": 1}, SGD),
    **LAYOUTS,
    **{f"one, {kind}": Case(1, {"zero_stage": 0}, settings) for kind, settings in OPTIMIZERS.items()},
    **{
        f"{layout}, {kind}": LAYOUTS[layout]._replace(optimizer=settings)
        for layout in OTHER_LAYOUTS
        for kind, settings in OPTIMIZERS.items()
    },
    "one, z-loss": Case(1, {"zero_stage": 1}, SGD, loss=Z_LOSS),
    **{f"{layout}, z-loss": LAYOUTS[layout]._replace(loss=Z_LOSS) for layout in FAMILY_LAYOUTS},
    "one, Muon": Case(1, {"zero_stage": 0}, MUON),
    **{f"{layout}, Muon": LAYOUTS[layout]._replace(optimizer=MUON) for layout in MUON_LAYOUTS},
    **{f"one, {run}": Case(1, {"zero_stage": 1}, SGD, run) for run in OTHER_RUNS},
    **{f"{name}, {run}": LAYOUTS[name]._replace(run=run) for name in FAMILY_LAYOUTS for run in OTHER_RUNS},
    **{f"token budget, {run}": Case(1, {"zero_stage": 1}, SGD, run, data=BUDGET) for run in BUDGET_RUNS},
    **EXPERT_LAYOUTS,
    **{f"one, {run}, Muon": Case(1, {"zero_stage": 0}, MUON, run) for run in ("elmo", "switch")},
    "tensor 2 x data 2, ZeRO 3, elmo, Muon": LAYOUTS["tensor 2 x data 2, ZeRO 3"]._replace(optimizer=MUON, run="elmo"),
    **{f"{name}, Muon": case._replace(optimizer=MUON) for name, case in EXPERT_LAYOUTS.items()},
    "one, switch, LAMB": Case(1, {"zero_stage": 0}, LAMB, "switch"),
    **{f"{name}, LAMB": EXPERT_LAYOUTS[name]._replace(optimizer=LAMB) for name in EXPERT_LAMB_LAYOUTS},
    "one, switch, bf16": Case(1, {"precision": "bf16"}, SGD, "switch"),
    **{
        f"{name}, bf16": EXPERT_LAYOUTS[name]._replace(parallel={**EXPERT_LAYOUTS[name].parallel, "precision": "bf16"})
        for name in EXPERT_BF16_LAYOUTS
    },
    **{f"one, bf16, ZeRO {stage}": Case(1, {"precision": "bf16", "zero_stage": stage}, SGD) for stage in (1, 2, 3)},
    **{
        f"tensor 2, bf16, ZeRO {stage}": Case(2, {"precision": "bf16", "tensor": 2, "zero_stage": stage}, SGD)
        for stage in (1, 2, 3)
    },
}
"""All runs. Cases with equal numbers of processes and tensor parallelism run one after the other in one world."""
SLOW = {
    *THOROUGH,
    *(f"token budget, data 2, ZeRO {stage}" for stage in (0, 2)),
    *(f"{layout}, Muon" for layout in (*MUON_LAYOUTS, *EXPERT_LAYOUTS) if layout not in FAST_MUON),
}
"""Cases that are computed only for tests that are slow."""

Computed = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def cache() -> Computed:
    """Recorded tensors by case."""
    return {}


@pytest.fixture(scope="module")
def selected(request: pytest.FixtureRequest) -> frozenset[str]:
    """The runs that are compared: all, or those of ``pytest -k FAMILY``."""
    items: Any = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    runs = {item.callspec.params.get("run") for item in items}
    return frozenset(FAMILY_RUNS if None in runs else runs)


@pytest.fixture
def computed(
    cache: Computed,
    selected: frozenset[str],
    world: Callable[..., list[str]],
    family_settings: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> Callable[[str], dict[str, torch.Tensor]]:
    """``computed(case)``: its recorded tensors; the first use of a world runs all cases that share it."""

    def get(name: str) -> dict[str, torch.Tensor]:
        if name not in cache:
            wanted, wanted_is_slow = CASES[name], name in SLOW
            sharing = [
                other
                for other, case in CASES.items()
                if (case.processes, case.parallel.get("tensor")) == (wanted.processes, wanted.parallel.get("tensor"))
                and case.run in selected
                and (other == name or other not in SLOW or wanted_is_slow)
            ]
            targets = {other: tmp_path / f"{number}.safetensors" for number, other in enumerate(sharing)}
            pairs = [
                (_settings(family_settings, CASES[other], target), str(target)) for other, target in targets.items()
            ]
            cases = tmp_path / "cases.json"
            cases.write_text(json.dumps(pairs))
            world(wanted.processes, PROCESS, str(cases), str(STEPS))
            cache.update({other: load_file(target) for other, target in targets.items()})
        return cache[name]

    return get


def _settings(family_settings: Callable[..., dict[str, Any]], case: Case, target: Path) -> dict[str, Any]:
    parallel = {"precision": "fp32", "threads": 1, **case.parallel}
    output = str(target.with_suffix(""))
    settings = family_settings(
        case.run, parallel=parallel, optimizer=case.optimizer, output=output, loss=case.loss or {}, data=dict(case.data)
    )
    objectives = {name: weight * case.loss_weight for name, weight in settings["objectives"].items()}
    return {**settings, "model": {**settings["model"], **case.model}, "objectives": objectives}


def scales(reference: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the largest entry of each tensor over all steps; in a single step a gradient can be close to zero."""
    largest: dict[str, float] = {}
    for name, value in reference.items():
        tensor = name.partition("/")[2]
        largest[tensor] = max(largest.get(tensor, 0.0), float(value.abs().max()))
    return {name: largest[name.replace("attention.key.bias", "attention.query.bias")] for name in largest}


def largest_difference(reference: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[float, str]:
    assert reference.keys() == other.keys()
    scale = scales(reference)
    differences = {
        name: float((value.double() - other[name].double()).abs().max()) / scale[name.partition("/")[2]]
        for name, value in reference.items()
    }
    worst = max(differences, key=differences.__getitem__)
    return differences[worst], worst


def assert_equal(reference: dict[str, torch.Tensor], other: dict[str, torch.Tensor], bound: float = BOUND) -> None:
    assert any(float(reference[f"{step}/norm/all"]) > 1.0 for step in range(STEPS)), "no gradient was clipped"
    difference, worst = largest_difference(reference, other)
    assert difference < bound, f"{worst} differs by {difference:.2e} of its largest entry"


def marked(layouts: Iterable[str], suffix: str = "") -> list[Any]:
    """Mark those whose case is slow."""
    return [pytest.param(each, marks=pytest.mark.slow) if each + suffix in SLOW else each for each in layouts]


@pytest.mark.parametrize("layout", marked(LAYOUTS))
def test_layout_equals_one_process(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed("one"), computed(layout))


@pytest.mark.parametrize("layout", FAMILY_LAYOUTS)
def test_z_loss_is_of_the_whole_vocabulary(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed("one, z-loss"), computed(f"{layout}, z-loss"))
    plain, penalized = (float(computed(case)["0/loss/masked_lm"]) for case in ("one", "one, z-loss"))
    assert penalized > plain + 0.5, "log Z is above 5"


def test_every_family_has_a_run() -> None:
    without = set(FAMILIES) - {run.model["family"] for run in FAMILY_RUNS.values()}
    assert not without, f"add a tiny run of {', '.join(without)} to tests/pretrain/family_runs.py"


@pytest.mark.parametrize("layout", FAMILY_LAYOUTS)
@pytest.mark.parametrize("run", OTHER_RUNS)
def test_family_equals_one_process(run: str, layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed(f"one, {run}"), computed(f"{layout}, {run}"), BOUNDS.get(run, BOUND))


@pytest.mark.parametrize("variant", marked({**VARIANTS, **THOROUGH}))
def test_variant_equals_one_process(variant: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    reference, case = {**VARIANTS, **THOROUGH}[variant]
    assert_equal(computed(reference), computed(variant), BOUNDS.get(case.run, BOUND))


@pytest.mark.parametrize("run", BUDGET_RUNS)
def test_a_token_budget_changes_nothing(run: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed(f"one, {run}"), computed(f"token budget, {run}"), BOUNDS.get(run, BOUND))


@pytest.mark.skipif(not precision.computes_fp16(torch.device("cpu")), reason="needs a processor with fp16")
@pytest.mark.parametrize("layout", FP16_LAYOUTS)
def test_fp16_is_fp32_within_its_precision(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    """fp16 rounds to 11 bits, 5e-4, once in each operation."""
    reference, other = computed("one, small loss"), computed(layout)
    for step in range(STEPS):
        assert float(other[f"{step}/norm/all"]) == pytest.approx(float(reference[f"{step}/norm/all"]), rel=2e-3)
    difference, worst = largest_difference(reference, other)
    assert difference < 2e-2, f"{worst} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("layout", EXPERT_LAYOUTS)
def test_expert_parallelism_equals_one_process(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed("one, switch"), computed(layout))


@pytest.mark.parametrize("layout", EXPERT_LAMB_LAYOUTS)
def test_lamb_uses_norms_of_whole_expert_tensors(
    layout: str, computed: Callable[[str], dict[str, torch.Tensor]]
) -> None:
    difference, worst = largest_difference(computed("one, switch, LAMB"), computed(f"{layout}, LAMB"))
    assert difference < 1e-3, f"{worst} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("layout", marked(MUON_LAYOUTS, ", Muon"))
def test_muon_updates_whole_matrices_in_every_layout(
    layout: str, computed: Callable[[str], dict[str, torch.Tensor]]
) -> None:
    assert_equal(computed("one, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


@pytest.mark.parametrize("layout", marked(EXPERT_LAYOUTS, ", Muon"))
def test_muon_updates_whole_experts(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed("one, switch, Muon"), computed(f"{layout}, Muon"), MUON_BOUND)


def test_muon_updates_whole_gates_and_filters(computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_equal(computed("one, elmo, Muon"), computed("tensor 2 x data 2, ZeRO 3, elmo, Muon"), MUON_BOUND)


def _without_noise(recorded: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Leave out the key bias under Adafactor, whose epsilon is too small for a gradient that is rounding errors."""
    return {name: value for name, value in recorded.items() if kind != "Adafactor" or "attention.key.bias" not in name}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_other_optimizers_make_the_same_update_in_every_layout(
    layout: str, kind: str, computed: Callable[[str], dict[str, torch.Tensor]]
) -> None:
    one, other = (_without_noise(computed(f"{case}, {kind}"), kind) for case in ("one", layout))
    difference, worst = largest_difference(one, other)
    # They divide by the root of the second moment, which amplifies rounding errors; a norm over a flat buffer instead
    # of a parameter would give a difference of more than 1.
    assert difference < 1e-3, f"{worst} differs by {difference:.2e} of its largest entry"


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_norm_is_right_under_tensor_parallelism(
    stage: int, computed: Callable[[str], dict[str, torch.Tensor]]
) -> None:
    assert_norms_near(computed(f"one, bf16, ZeRO {stage}"), computed(f"tensor 2, bf16, ZeRO {stage}"))


@pytest.mark.parametrize("layout", EXPERT_BF16_LAYOUTS)
def test_bf16_norm_counts_every_expert_once(layout: str, computed: Callable[[str], dict[str, torch.Tensor]]) -> None:
    assert_norms_near(computed("one, switch, bf16"), computed(f"{layout}, bf16"))


def assert_norms_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for step in range(STEPS):
        assert float(other[f"{step}/norm/all"]) == pytest.approx(float(one[f"{step}/norm/all"]), rel=0.02)
