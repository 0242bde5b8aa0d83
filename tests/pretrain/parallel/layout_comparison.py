"""How the recorded tensors of two layouts are compared.

SGD is compared, not Adam: Adam divides by the root of the second moment, so where a gradient is zero in theory (the key
bias: softmax does not change when the same number is added to all its inputs) it turns rounding errors into steps of
full size. SGD keeps the size of differences. For the same reason the key bias is compared relative to the scale of the
query bias.
"""

from collections.abc import Callable

import pytest
import torch

from sesame.pretrain import precision
from tests.pretrain.parallel.layout_cases import Case

STEPS = 3
BOUND = 1e-6
BOUNDS = {"bert, GPT-BERT": 3e-6}
"""Of runs whose rounding errors are larger: norms on what layers add divide by its size, which is small at the start.
An error of a layout would be a thousand times as large."""
MUON_BOUND = 1e-5
"""Small singular values of a momentum, and the rounding errors in them, are multiplied by up to 3.4445^5 = 485 before
they become a step; an update of a part of a matrix instead of the whole would differ by more than 1e-2."""

needs_fp16 = pytest.mark.skipif(not precision.computes_fp16(torch.device("cpu")), reason="needs a processor with fp16")

Recorded = dict[str, torch.Tensor]
"""By ``STEP/KIND/NAME``."""
Computed = Callable[[str], Recorded]
"""By name of the case."""


def scales(reference: Recorded) -> dict[str, float]:
    """Return the largest entry of each tensor over all steps; in a single step a gradient can be close to zero."""
    largest: dict[str, float] = {}
    for name, value in reference.items():
        tensor = name.partition("/")[2]
        largest[tensor] = max(largest.get(tensor, 0.0), float(value.abs().max()))
    return {name: largest[name.replace("attention.key.bias", "attention.query.bias")] for name in largest}


def largest_difference(reference: Recorded, other: Recorded) -> tuple[float, str]:
    assert reference.keys() == other.keys()
    scale = scales(reference)
    differences = {
        name: float((value.double() - other[name].double()).abs().max()) / scale[name.partition("/")[2]]
        for name, value in reference.items()
    }
    worst = max(differences, key=differences.__getitem__)
    return differences[worst], worst


def assert_near(reference: Recorded, other: Recorded, bound: float) -> None:
    difference, worst = largest_difference(reference, other)
    # Shown by pytest -rP.
    print(f"largest difference {difference:.1e} of bound {bound:.1e}, of {worst}")
    assert difference < bound, f"{worst} differs by {difference:.2e} of its largest entry"


def assert_equal(reference: Recorded, other: Recorded, bound: float = BOUND) -> None:
    assert any(float(reference[f"{step}/norm/all"]) > 1.0 for step in range(STEPS)), "no gradient was clipped"
    assert_near(reference, other, bound)


def assert_fp16_near(reference: Recorded, other: Recorded) -> None:
    """fp16 rounds to 11 bits, 5e-4, once in each operation."""
    assert_norms_near(reference, other, 2e-3)
    assert_near(reference, other, 2e-2)


def assert_fp8_near(reference: Recorded, other: Recorded, case: Case) -> None:
    """Layouts that divide rows only round alike. Where the sums of a product are divided, or experts get their tokens
    in another order, a result may have another last bit of bf16, and as an operand of the next product be the next
    number of fp8, 2^-3 away."""
    divides_sums = case.parallel.keys() & {"tensor", "expert"} or case.data
    assert_norms_near(reference, other, 0.01 if divides_sums else BOUND)
    assert_near(reference, other, 0.25 if divides_sums else BOUND)


def assert_norms_near(one: Recorded, other: Recorded, tolerance: float) -> None:
    for step in range(STEPS):
        assert float(other[f"{step}/norm/all"]) == pytest.approx(float(one[f"{step}/norm/all"]), rel=tolerance)
