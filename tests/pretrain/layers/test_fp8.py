"""Products of rounded operands, against the rounding computed here from the number formats' definitions."""

import numpy as np
import pytest
import torch

from sesame.pretrain import precision
from sesame.pretrain.layers import fp8
from sesame.pretrain.layers.fp8 import fp8_linear

FORMATS = {"E4M3": (4, -6, 448.0), "E5M2": (3, -14, 57344.0)}
"""Name -> bits of a number with its hidden one, exponent of the smallest number that has all of them, and the largest
(Micikevicius et al. 2022, table 1)."""


@pytest.fixture(params=["cpu", "cuda"], autouse=True)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product of each type of device, on this one; oneDNN, which computes that of GPUs here, can be limited to
    instructions that have none."""
    if request.param == "cuda" and precision.of_device(torch.device("cpu")).name != "bf16":
        pytest.skip("needs a processor with bf16")
    monkeypatch.setitem(fp8.PRODUCTS, "cpu", fp8.PRODUCTS[request.param])


def rounded(values: torch.Tensor, format: str) -> np.ndarray:
    """Scale by a power of two, so that the largest entry just fits, round to the nearest, even ones at ties, and undo
    the scale."""
    bits, smallest, largest = FORMATS[format]
    numbers = values.double().numpy()
    scale = 2.0 ** np.floor(np.log2(largest / np.abs(numbers).max()))
    _, exponents = np.frexp(numbers * scale)
    quantum = 2.0 ** (np.maximum(exponents - 1, smallest) - bits + 1)
    return np.rint(numbers * scale / quantum) * quantum / scale


def outputs(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, upstream: torch.Tensor) -> list[np.ndarray]:
    inputs = [each.clone().requires_grad_() for each in (states, weight, bias)]
    output = fp8_linear(*inputs)
    found = output.detach(), *torch.autograd.grad(output, inputs, upstream)
    assert all(each.dtype == torch.bfloat16 for each in found)
    return [each.double().numpy() for each in found]


def operands(tokens: int, size: float = 1.0) -> list[torch.Tensor]:
    torch.manual_seed(3)
    shapes = (tokens, 64), (48, 64), (48,), (tokens, 48)
    return [(torch.randn(shape) * each).bfloat16() for shape, each in zip(shapes, (3.0, 0.02, 0.1, size), strict=True)]


@pytest.mark.parametrize(("tokens", "size"), [(32, 1.0), (32, 1e-20), (32, 1e20), (1, 1.0), (37, 1e-4)])
def test_products_are_those_of_rounded_operands(tokens: int, size: float) -> None:
    states, weight, bias, upstream = operands(tokens, size)
    x, w, g = rounded(states, "E4M3"), rounded(weight, "E4M3"), rounded(upstream, "E5M2")
    expected = x @ w.T + bias.double().numpy(), g @ w, g.T @ x, upstream.double().numpy().sum(0)
    for actual, value in zip(outputs(states, weight, bias, upstream), expected, strict=True):
        np.testing.assert_allclose(actual, value, rtol=2**-7, atol=2**-8 * np.abs(value).max())


def test_rounding_is_that_of_fp8_and_not_less() -> None:
    states, weight, bias, upstream = operands(64)
    exact = states.double() @ weight.double().T
    output = outputs(states, weight, torch.zeros_like(bias), upstream)[0]
    error = np.linalg.norm(output - exact.numpy()) / np.linalg.norm(exact)
    # Operands with 4 bits are off by up to 2^-4 and by 0.026 in the mean square, both of them by 0.037.
    assert 0.03 < error < 0.045


def test_a_division_of_the_operands_rounds_the_same() -> None:
    """Over tokens, outputs and inputs, as data and tensor parallelism divide them; parts have other scales, which would
    change every number by a few hundredths if they were not powers of two."""
    states, weight, bias, upstream = operands(64)
    states[40:] *= 13
    weight[24:] *= 13
    whole, none = outputs(states, weight, bias, upstream), torch.zeros_like(bias)
    halves = slice(32), slice(32, 64)
    tokens = [outputs(states[part], weight, bias, upstream[part]) for part in halves]
    assert_close(np.concatenate([each[0] for each in tokens]), whole[0])
    assert_close(np.sum([each[2] for each in tokens], axis=0), whole[2])
    columns = [outputs(states, weight[part], bias[part], upstream[:, part]) for part in (slice(16), slice(16, 48))]
    assert_close(np.concatenate([each[0] for each in columns], 1), whole[0])
    assert_close(np.sum([each[1] for each in columns], axis=0), whole[1])
    rows = [outputs(states[:, part], weight[:, part], none, upstream) for part in halves]
    assert_close(np.sum([each[0] for each in rows], axis=0) + bias.double().numpy(), whole[0])
    assert_close(np.concatenate([each[2] for each in rows], 1), whole[2])


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Numbers that became subnormal in one of both may be rounded otherwise."""
    np.testing.assert_allclose(actual, expected, rtol=2**-7, atol=2**-9 * np.abs(expected).max())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_seen(value: float) -> None:
    states, weight, bias, upstream = operands(32)
    damaged = states.clone()
    damaged[3, 5] = value
    assert not np.isfinite(outputs(damaged, weight, bias, upstream)[0][3]).any()
    damaged = upstream.clone()
    damaged[3, 5] = value
    _, of_states, of_weight, of_bias = outputs(states, weight, bias, damaged)
    assert not np.isfinite(of_states[3]).any() and not np.isfinite(of_weight[5]).any() and not np.isfinite(of_bias[5])


def test_zeros_stay_zeros() -> None:
    _, weight, bias, upstream = operands(32)
    zeros = torch.zeros(32, 64, dtype=torch.bfloat16)
    output, of_states, of_weight, _ = outputs(zeros, weight, bias, 0 * upstream)
    np.testing.assert_array_equal(output, np.tile(bias.double().numpy(), (32, 1)))
    assert not of_states.any() and not of_weight.any()


def test_only_gradients_that_are_needed_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    states, weight, bias, _ = operands(32)
    products, product = [], fp8.PRODUCTS["cpu"]
    monkeypatch.setitem(fp8.PRODUCTS, "cpu", lambda *each, **other: products.append(1) or product(*each, **other))
    for trained, count in ((states, 2), (weight, 2), (bias, 1)):
        output = fp8_linear(*(each.detach().requires_grad_(each is trained) for each in (states, weight, bias)))
        output.sum().backward()
        assert len(products) == count, "one in the forward pass"
        products.clear()
    assert not fp8_linear(states.detach(), weight, None).requires_grad
