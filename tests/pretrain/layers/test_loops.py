"""Compiled loops against torch's operations, which they replace on a CPU: values, gradients and random numbers."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sesame.pretrain.layers import dropout as dropouts
from sesame.pretrain.layers import loops, positions, vocabulary
from sesame.pretrain.layers.dropout import dropout
from sesame.pretrain.layers.gelu import gelu_tanh
from sesame.pretrain.layers.positions import apply_rotary, rotary
from sesame.pretrain.layers.random_bits import random_bits
from sesame.pretrain.layers.vocabulary import cross_entropy_

FORMATS = pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
SPECIAL = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-30, -1e30, 3e38, 88.0, -88.0]


def numbers(*shape: int, number_format: torch.dtype) -> Tensor:
    """Return random numbers, some of which are large, not finite or not numbers."""
    states = 3 * torch.randn(*shape)
    states.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL)
    return states.to(number_format)


def with_gradient(function: Callable[[Tensor], Tensor], states: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    leaf = states.clone().requires_grad_()
    output = function(leaf)
    return output.detach(), torch.autograd.grad(output, leaf, upstream)[0]


def assert_same_bits(ours: Tensor, theirs: Tensor) -> None:
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours.nan_to_num(0.0), theirs.nan_to_num(0.0))
    assert torch.equal(ours.signbit()[~ours.isnan()], theirs.signbit()[~theirs.isnan()])


@pytest.mark.parametrize("entries", [1, 5, 1247, 1248, 1249, 5000])
@pytest.mark.parametrize("before", [0, 1, 623, 624, 1000])
def test_random_bits_are_torchs(entries: int, before: int) -> None:
    """Also after an odd number of others, and the numbers after them are the same."""
    found = []
    for loops_used in (True, False):
        torch.manual_seed(11)
        torch.randn(3)
        torch.rand(before)
        found.append([random_bits(entries, loops=loops_used), torch.rand(700), torch.randn(5)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@FORMATS
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.99999])
def test_dropout_has_the_bits_of_torchs_operations(
    number_format: torch.dtype, probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, upstream = (numbers(37, 41, number_format=number_format) for _ in range(2))
    results = []
    for used in (True, False):
        monkeypatch.setattr(dropouts, "fits_loops", lambda *tensors, used=used: used)
        torch.manual_seed(3)
        results.append(with_gradient(lambda each: dropout(each, probability), states.t(), upstream.t()))
    for ours, theirs in zip(*results, strict=True):
        assert_same_bits(ours, theirs)


@FORMATS
def test_gelu_is_torchs(number_format: torch.dtype) -> None:
    states = numbers(33, 65, number_format=number_format)
    upstream = torch.randn(33, 65).to(number_format)
    assert loops.use_loops(states)
    ours = with_gradient(gelu_tanh, states, upstream)
    theirs = with_gradient(lambda each: F.gelu(each, approximate="tanh"), states, upstream)
    # In bf16 the last bit.
    relative, absolute = (2e-6, 4e-6) if number_format == torch.float32 else (2**-7, 1e-3)
    finite = states.isfinite() & (states.abs() < 1e30)
    for mine, torchs in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine[finite], torchs[finite], rtol=relative, atol=absolute)
    assert ours[0][states.isnan()].isnan().all() and ours[1][states.isnan()].isnan().all()
    assert float(gelu_tanh(torch.tensor([3e38]))) == pytest.approx(3e38)


@FORMATS
@pytest.mark.parametrize("angle_format", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_contiguous", [True, False])
def test_rotation_is_the_formula(
    number_format: torch.dtype, angle_format: torch.dtype, is_contiguous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its gradient the opposite rotation, as exact as torch's operations."""
    states, upstream = (torch.randn(7, 3, 10).to(number_format) for _ in range(2))
    if not is_contiguous:
        states, upstream = (each.transpose(0, 1).contiguous().transpose(0, 1) for each in (states, upstream))
    cosines, sines = rotary(torch.arange(7), 10, 100.0, angle_format)

    def formula(each: Tensor, direction: int) -> Tensor:
        left, right = each.double().chunk(2, -1)
        across, up = cosines.double(), direction * sines.double()
        return torch.cat([left * across - right * up, right * across + left * up], -1)

    assert loops.use_loops(states, cosines, sines)
    exact = formula(states, 1), formula(upstream, -1)
    ours = with_gradient(lambda each: apply_rotary(each, cosines, sines), states, upstream)
    monkeypatch.setattr(positions, "use_loops", lambda *tensors: False)
    torchs = with_gradient(lambda each: apply_rotary(each, cosines, sines), states, upstream)
    for mine, theirs, reference in zip(ours, torchs, exact, strict=True):
        distances = [float((each.double() - reference).abs().max()) for each in (mine, theirs)]
        assert distances[0] <= max(1.01 * distances[1], 5e-7)
        assert distances[0] < (1e-6 if number_format == torch.float32 else 2**-6)


def test_gelu_in_fp32_is_as_exact_as_torchs() -> None:
    states = torch.linspace(-12, 12, 100_001)
    exact = with_gradient(
        lambda each: F.gelu(each, approximate="tanh"), states.double(), torch.ones(len(states)).double()
    )
    ours = with_gradient(gelu_tanh, states, torch.ones(len(states)))
    for mine, reference in zip(ours, exact, strict=True):
        assert float((mine.double() - reference).abs().max()) < 2e-6


@FORMATS
@pytest.mark.parametrize("columns", [3, 64, 333])
@pytest.mark.parametrize("z_loss", [0.0, 0.2])
def test_cross_entropy_is_the_formula(
    number_format: torch.dtype, columns: int, z_loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = (20 * torch.randn(9, columns)).to(number_format)
    logits[:, 2] = -torch.inf
    labels = torch.randint(0, 2, (9,))
    labels[4] = vocabulary.IGNORED
    exact = logits.double().requires_grad_()
    of_rows = F.cross_entropy(exact, labels, reduction="none", ignore_index=vocabulary.IGNORED)
    total = (of_rows + z_loss * exact.logsumexp(-1).square() * (labels >= 0)).sum()
    (gradient,) = torch.autograd.grad(total, exact)
    assert loops.use_loops(logits)
    ours = logits.clone()
    loss = cross_entropy_(ours, labels, replaces=True, z_loss=z_loss)
    torch.testing.assert_close(loss.double(), total.detach(), rtol=1e-6, atol=1e-6)
    bound = 3e-5 if number_format == torch.float32 else 2**-6
    torch.testing.assert_close(ours.double(), gradient, rtol=bound, atol=bound / 4)
    assert not ours[4].any() and not ours[:, 2].any()
    unchanged = logits.clone()
    assert torch.equal(cross_entropy_(unchanged, labels, replaces=False, z_loss=z_loss), loss)
    assert torch.equal(unchanged, logits)


def test_a_logit_that_is_not_a_number_makes_the_loss_one() -> None:
    """The watch finds such losses."""
    for value in (float("nan"), float("inf")):
        logits = torch.randn(2, 100)
        logits[1, 70] = value
        loss = cross_entropy_(logits, torch.tensor([1, 2]), replaces=True)
        assert loss.isnan() and logits[1].isnan().all() and logits[0].isfinite().all()


@FORMATS
def test_a_traced_dropout_keeps_one_byte_for_each_entry(number_format: torch.dtype) -> None:
    """What ``sesame plan`` counts is what a run keeps."""
    for mode in (FakeTensorMode(allow_non_fake_inputs=True), nullcontext()):
        with mode:
            states = torch.ones(3, 5, dtype=number_format, requires_grad=True)
            output = dropout(states, 0.1)
            node: Any = output.grad_fn
            assert [(tuple(kept.shape), kept.dtype) for kept in node.saved_tensors] == [((3, 5), torch.uint8)]
            assert torch.autograd.grad(output.sum(), states)[0].shape == (3, 5)


def test_loops_are_for_few_threads_and_tensors_with_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loops.use_loops(torch.ones(2), torch.ones(2).bfloat16(), torch.nn.Parameter(torch.ones(2)))
    assert not loops.use_loops(torch.ones(2).half())
    assert not loops.use_loops(torch.ones(2, device="meta"))
    with FakeTensorMode():
        assert not loops.use_loops(torch.ones(2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: loops.MOST_THREADS + 1)
    assert not loops.use_loops(torch.ones(2))
