"""The project's kernels against the formula: values and gradients, with and without padding, in fp32 and bf16."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sesame.pretrain.data.packing import layout, layout_like
from sesame.pretrain.layers import attention, vocabulary
from sesame.pretrain.layers.attention import AttentionPattern, grouped_attention, unfused_attention
from sesame.pretrain.layers.dropout import dropout
from sesame.pretrain.layers.experts import GatherRows, ScatterRows
from sesame.pretrain.layers.positions import apply_rotary
from sesame.pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection, cross_entropy_
from sesame.pretrain.precision import Precision


def one_sequence(query, key, value, pattern: AttentionPattern, scale: float) -> torch.Tensor:
    scores = torch.einsum("ihk,jhk->hij", query, key) * scale
    if pattern.bias_HLL is not None:
        scores = scores + pattern.bias_HLL[:, : len(query), : len(key)]
    distance = torch.arange(len(key)) - torch.arange(len(query))[:, None]
    masked = (distance > 0) & pattern.causal
    if pattern.window:
        masked |= distance.abs() > pattern.window
    return torch.einsum("hij,jhk->ihk", scores.masked_fill(masked, -torch.inf).softmax(-1), value)


def sequence_by_sequence(
    query, key, value, pattern: AttentionPattern, lengths: list[int], others: list[int]
) -> torch.Tensor:
    split = zip(query.split(lengths), key.split(others), value.split(others), strict=True)
    return torch.cat([one_sequence(q, k, v, pattern, 0.3) for q, k, v in split])


LENGTHS = [[7], [9, 9, 9, 9], [8, 9, 9, 10], [3, 4, 20, 20, 20, 20, 21, 60]]
PATTERNS = {
    "all": {},
    "causal": {"causal": True},
    "window": {"window": 3},
    "causal window": {"causal": True, "window": 5},
    "bias": {"bias_HLL": True},
    "causal bias": {"causal": True, "bias_HLL": True},
}


def compare(parts: Any, pattern: AttentionPattern, lengths: list[int], others: list[int]) -> None:
    inputs = [*parts, *([pattern.bias_HLL] if pattern.bias_HLL is not None else [])]
    ours = grouped_attention(parts[0], parts[1], parts[2], pattern, 0.3, 0.0)
    plain = sequence_by_sequence(parts[0], parts[1], parts[2], pattern, lengths, others)
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn_like(plain)
    pairs = [torch.autograd.grad(made, inputs, upstream) for made in (ours, plain)]
    for mine, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kernel", ["unfused", "fused"])
@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_attention_is_the_formula(lengths: list[int], kind: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {("cpu", torch.float64, False)} if kernel == "unfused" else set()
    monkeypatch.setattr(attention, "UNFUSED_CASES", chosen)
    packed = layout(np.array(lengths))
    inputs = [torch.randn(sum(lengths), 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(3, max(lengths), max(lengths), dtype=torch.float64, requires_grad=True)
    changes = {**PATTERNS[kind], **({"bias_HLL": bias} if "bias" in kind else {})}
    compare(inputs, AttentionPattern(packed, packed, **changes), lengths, lengths)


@pytest.mark.parametrize("kernel", ["unfused", "fused"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_cross_attention_is_the_formula(lengths: list[int], kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {("cpu", torch.float64, False)} if kernel == "unfused" else set()
    monkeypatch.setattr(attention, "UNFUSED_CASES", chosen)
    others = [1 + (7 * length) % 11 for length in lengths]
    keys = layout(np.array(lengths))
    query = torch.randn(sum(others), 3, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(sum(lengths), 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    compare([query, key, value], AttentionPattern(layout_like(keys, np.array(others)), keys), others, lengths)


def test_unfused_attention_in_bf16_is_as_exact_as_torchs() -> None:
    torch.manual_seed(3)
    ours = torchs = 0.0
    for _ in range(20):
        exact: Any = [torch.randn(4, 2, 32, 16, dtype=torch.float64) for _ in range(3)]
        reference = F.scaled_dot_product_attention(*exact)
        rounded: Any = [part.bfloat16() for part in exact]
        ours += float(
            (unfused_attention(rounded[0], rounded[1], rounded[2], None, 16**-0.5, 0.0).double() - reference)
            .abs()
            .max()
        )
        torchs += float((F.scaled_dot_product_attention(*rounded).double() - reference).abs().max())
    assert ours < 2 * torchs, "summed over many inputs, because the largest error of one varies"


@pytest.mark.parametrize("available", ["fp32", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bf16_is_not_multiplied_where_it_is_emulated(
    dtype: torch.dtype, available: Literal["fp32", "bf16"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU without instructions for it torch's fused kernel is several times faster."""
    monkeypatch.setattr(attention, "of_device", lambda device: Precision(available, "test"))
    used = []
    monkeypatch.setattr(
        attention, "unfused_attention", lambda *arguments: used.append("unfused") or unfused_attention(*arguments)
    )
    packed = layout(np.array([9, 9]))
    query, key, value = (torch.randn(18, 2, 8, dtype=dtype) for _ in range(3))
    grouped_attention(query, key, value, AttentionPattern(packed, packed), 0.3, 0.1)
    assert bool(used) == (dtype == torch.float32 or available == "bf16")


def test_rotary_and_row_copies_have_exact_gradients() -> None:
    states = torch.randn(5, 2, 4, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(5, 1, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: apply_rotary(x, angles.cos(), angles.sin()), states)
    positions = torch.tensor([0, 2, 3, 6, 8])
    assert torch.autograd.gradcheck(lambda x: ScatterRows.apply(x, positions, 9), states)
    assert torch.autograd.gradcheck(lambda x: GatherRows.apply(x, torch.tensor([1, 4])), states)


@pytest.mark.parametrize("at_once", [0, 1, 50, 10**6])
@pytest.mark.parametrize("replaces", [False, True])
def test_cross_entropy_is_torchs(at_once: int, replaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loop of one row at a time (0), and by torch's operations on so many entries."""
    monkeypatch.setattr(vocabulary, "use_loops", lambda *tensors: not at_once)
    monkeypatch.setitem(vocabulary.ENTRIES_AT_ONCE, "cpu", at_once)
    logits = (5 * torch.randn(7, 150, dtype=torch.float32)).requires_grad_()
    labels = torch.randint(0, 150, (7,))
    torchs = F.cross_entropy(logits, labels, reduction="sum")
    ours = logits.detach().clone()
    torch.testing.assert_close(cross_entropy_(ours, labels, replaces=replaces), torchs.detach())
    expected = torch.autograd.grad(torchs, logits)[0] if replaces else logits.detach()
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("logits_at_once", [20, 60, 2**20])
@pytest.mark.parametrize("bias", [False, True])
def test_projected_cross_entropy_is_torchs(
    bias: bool, logits_at_once: int, multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vocabulary.LOGITS_AT_ONCE, "cpu", logits_at_once)
    monkeypatch.setitem(vocabulary.ROW_MULTIPLE, "cpu", multiple)
    projection = VocabularyProjection(20, 6, bias=bias, scale=0.5).double()
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter)
    hidden, labels = torch.randn(7, 6, dtype=torch.float64, requires_grad=True), torch.randint(0, 20, (7,))
    ours = CrossEntropy()(projection, hidden, labels)
    torchs = F.cross_entropy(projection(hidden), labels, reduction="sum")
    torch.testing.assert_close(ours.double(), torchs, rtol=1e-6, atol=1e-6)
    inputs = [hidden, *projection.parameters()]
    for mine, theirs in zip(*(torch.autograd.grad(3 * loss, inputs) for loss in (ours, torchs)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(projection(hidden, labels), ours)


@pytest.mark.parametrize("logits_at_once", [60, 2**20])
@pytest.mark.parametrize("at_once", [50, 10**6])
def test_z_loss_has_the_gradient_of_its_formula(
    logits_at_once: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PaLM, section 5: the weight times the square of the log of the softmax's denominator."""
    monkeypatch.setitem(vocabulary.LOGITS_AT_ONCE, "cpu", logits_at_once)
    monkeypatch.setitem(vocabulary.ENTRIES_AT_ONCE, "cpu", at_once)
    projection = VocabularyProjection(20, 6, bias=True).double()
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter)
    hidden, labels = torch.randn(7, 6, dtype=torch.float64, requires_grad=True), torch.randint(0, 20, (7,))
    layer = CrossEntropy()
    layer.z_loss = 0.3
    logits = projection(hidden)
    formula = F.cross_entropy(logits, labels, reduction="sum") + 0.3 * logits.logsumexp(-1).square().sum()
    inputs = [hidden, *projection.parameters()]
    ours = layer(projection, hidden, labels)
    torch.testing.assert_close(ours.double(), formula, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(*(torch.autograd.grad(3 * loss, inputs) for loss in (ours, formula)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    without = F.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(layer.eval()(projection, hidden, labels).double(), without, rtol=1e-6, atol=1e-6)


def test_cross_entropy_of_nothing_is_zero() -> None:
    projection, hidden = VocabularyProjection(20, 4), torch.empty(0, 4, requires_grad=True)
    loss = CrossEntropy()(projection, hidden, torch.empty(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert hidden.grad is not None and projection.weight.grad is not None and not projection.weight.grad.any()


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_drops_the_configured_fraction_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(1)
    ones = torch.ones(1000, 1003, requires_grad=True)
    kept = dropout(ones, probability)
    fraction = float((kept == 0).float().mean())
    assert fraction == pytest.approx(probability, abs=0.002)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.005)
    kept.sum().backward()
    torch.testing.assert_close(ones.grad, kept.detach())
    # Neighbours are independent: the fraction of pairs that are both dropped is the square.
    both = ((kept[:, 1:] == 0) & (kept[:, :-1] == 0)).float().mean()
    assert float(both) == pytest.approx(probability**2, abs=0.002)


def test_dropout_follows_torchs_seed() -> None:
    states = torch.randn(33, 7)
    torch.manual_seed(5)
    first = dropout(states, 0.3)
    second = dropout(states, 0.3)
    torch.manual_seed(5)
    assert torch.equal(dropout(states, 0.3), first)
    assert not torch.equal(second, first)
