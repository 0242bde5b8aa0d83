"""Projection of hidden states to the vocabulary, often tied to the embedding, and cross-entropy.

Both are modules, so that ``pretrain.parallel.tensor`` can replace them where the vocabulary is split over processes.
"""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sesame.pretrain.batch import IGNORED
from sesame.pretrain.compiled import cross_entropy as compiled
from sesame.pretrain.layers.linear import linear
from sesame.pretrain.layers.loops import array, flat, use_loops


class VocabularyProjection(nn.Module):
    """Hidden states -> logits; the weight may be tied to the embedding (Press & Wolf 2017)."""

    device_type: str | None = None
    """Type of device whose limits below are kept; None: that of the hidden states."""

    def __init__(self, vocabulary_size: int, width: int, *, bias: bool = True, scale: float = 1.0):
        """
        Args:
            scale: of the hidden state (T5 with a tied embedding: width^-0.5).
        """
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(vocabulary_size, width))
        self.bias = nn.Parameter(torch.empty(vocabulary_size)) if bias else None

    def forward(
        self,
        hidden_PD: Tensor,
        labels_P: Tensor | None = None,
        z_loss: float = 0.0,
        losses_P: Tensor | None = None,
    ) -> Tensor:
        """Return logits [P, V], or with labels the sum of -log softmax(logits)[label] + z_loss (log Z)^2 in nats, where
        Z is the sum of exp(logits), without all logits.

        Args:
            losses_P: fp32, overwritten with the terms of that sum; None: they are not needed.
        """
        if self.scale != 1.0:
            hidden_PD = hidden_PD * self.scale
        if labels_P is None:
            return F.linear(hidden_PD, self.weight, self.bias)
        device = self.device_type or hidden_PD.device.type
        arguments = hidden_PD, self.weight, self.bias, labels_P, torch.is_grad_enabled(), device, z_loss, losses_P
        return cast(Tensor, _ProjectedCrossEntropy.apply(*arguments))


class CrossEntropy(nn.Module):
    """Sum of -log softmax(projection(hidden))[label] in nats, computed in fp32 whatever the logits' precision."""

    z_loss: float = 0.0
    """Weight of (log Z)^2, which is added in training (PaLM, Chowdhery et al. 2022, section 5)."""

    keeps_losses: bool = False
    """Whether ``kept`` is set."""
    kept: tuple[Tensor, Tensor] | None = None
    """Labels [P] of the last call in training, and the loss [P] of each."""

    @property
    def z_loss_now(self) -> float:
        """``z_loss`` in training; 0 in evaluation, so that validation losses are those of the model alone."""
        return self.z_loss if self.training else 0.0

    def forward(self, projection: VocabularyProjection, hidden_PD: Tensor, labels_P: Tensor) -> Tensor:
        if not (self.keeps_losses and self.training and torch.is_grad_enabled()):
            return projection(hidden_PD, labels_P, self.z_loss_now)
        losses_P = torch.empty(labels_P.shape, dtype=torch.float32, device=labels_P.device)
        total = projection(hidden_PD, labels_P, self.z_loss_now, losses_P)
        self.kept = labels_P, losses_P
        return total


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Projection, loss and gradients of some predictions at a time: only their logits are in memory.

    The gradient of the logits, softmax - one-hot, replaces them and is multiplied at once (as in Liger Kernel, Hsu et
    al. 2024); the backward pass only scales the products. If there is one part, it waits for the backward pass, where
    it is scaled before it is multiplied: one rounding less.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        labels_P: Tensor,
        needs_gradient: bool,
        device: str,
        z_loss: float = 0.0,
        losses_P: Tensor | None = None,
    ) -> Tensor:
        rows = ctx.rows = len(weight_VD)
        ctx.device = device
        if extra := -rows % ROW_MULTIPLE[device]:
            weight_VD = F.pad(weight_VD, (0, 0, 0, extra))
            bias_V = None if bias_V is None else F.pad(bias_V, (0, extra))
        chunks = ctx.chunks = max(1, -(-len(labels_P) * len(weight_VD) // LOGITS_AT_ONCE[device]))
        loss = torch.zeros((), dtype=torch.float32, device=hidden_PD.device)
        sums = _GradientSums(hidden_PD, weight_VD, bias_V, chunks)
        if losses_P is None:
            losses_P = torch.empty(labels_P.shape, dtype=torch.float32, device=hidden_PD.device)
        parts = (each.tensor_split(chunks) for each in (hidden_PD, labels_P, losses_P))
        for hidden, labels, losses in zip(*parts, strict=True):
            logits = linear(hidden, weight_VD, bias_V)
            logits[:, rows:] = -torch.inf
            loss += cross_entropy_(
                logits, labels, replaces=needs_gradient, device=device, z_loss=z_loss, losses_P=losses
            )
            if needs_gradient and chunks > 1:
                sums.add(hidden, logits)
            elif needs_gradient:
                ctx.save_for_backward(hidden_PD, weight_VD, bias_V, logits)
        if needs_gradient and chunks > 1:
            ctx.save_for_backward(*sums.result(rows))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.chunks == 1:
            hidden_PD, weight_VD, bias_V, of_logits = ctx.saved_tensors
            # In fp32 layouts agree to more digits if all of them scale the logits.
            is_short = hidden_PD.dtype != torch.float32
            multiply = _scaled_products if ctx.device == "cpu" and is_short else _products_of_scaled
            products = multiply(hidden_PD, weight_VD, bias_V, of_logits, gradients[0], ctx.rows)
        else:
            products = [None if product is None else product * gradients[0] for product in ctx.saved_tensors]
        return *products, None, None, None, None, None


def _products_of_scaled(
    hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, of_logits: Tensor, factor: Tensor, rows: int
) -> tuple[Tensor | None, ...]:
    sums = _GradientSums(hidden_PD, weight_VD, bias_V, 1)
    sums.add(hidden_PD, of_logits.mul(factor))
    return sums.result(rows)


def _scaled_products(
    hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, of_logits: Tensor, factor: Tensor, rows: int
) -> tuple[Tensor | None, ...]:
    """Scale the small factors and products instead of the logits, which saves a pass over them."""
    of_hidden = (of_logits @ weight_VD).mul_(factor)
    of_weight = of_logits.t() @ (hidden_PD * factor)
    # Summed in fp32 and rounded once; with a result in fp32 torch takes a loop that is twenty times slower.
    of_bias = None if bias_V is None else of_logits.sum(0).mul_(factor)
    return of_hidden, of_weight[:rows], None if of_bias is None else of_bias[:rows]


class _GradientSums:
    """Gradients of hidden states, weight and bias over the chunks of predictions."""

    def __init__(self, hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, chunks: int):
        self.weight_VD, self.dtype = weight_VD, weight_VD.dtype
        self.of_hidden: list[Tensor] = []
        # A sum of several products is kept in fp32.
        self.of_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if chunks > 1 else None
        self.of_bias = None if bias_V is None else torch.zeros_like(bias_V, dtype=torch.float32)

    def add(self, hidden: Tensor, of_logits: Tensor) -> None:
        """Add the products with the gradient of a chunk's logits."""
        self.of_hidden.append(of_logits @ self.weight_VD)
        product = of_logits.t() @ hidden
        self.of_weight = product if self.of_weight is None else self.of_weight.add_(product)
        if self.of_bias is not None:
            self.of_bias += of_logits.sum(0, dtype=torch.float32)

    def result(self, rows: int) -> tuple[Tensor | None, ...]:
        """Return the three gradients, those of the first ``rows`` of the vocabulary."""
        assert self.of_weight is not None
        of_bias = None if self.of_bias is None else self.of_bias[:rows].to(self.dtype)
        return torch.cat(self.of_hidden), self.of_weight[:rows].to(self.dtype), of_bias


def cross_entropy_(
    logits_PV: Tensor,
    labels_P: Tensor,
    *,
    replaces: bool,
    device: str | None = None,
    z_loss: float = 0.0,
    losses_P: Tensor | None = None,
) -> Tensor:
    """Return the summed cross-entropy in fp32, without an fp32 copy of all logits.

    Args:
        labels_P: those that are ``IGNORED`` count for nothing.
        replaces: overwrite the logits with their gradient.
        device: key of the table below; None: the type of the logits' device.
        z_loss: weight of (log Z)^2, whose gradient is 2 log Z softmax.
        losses_P: fp32, overwritten with the terms of the sum.
    """
    if losses_P is None:
        losses_P = torch.empty(labels_P.shape, dtype=torch.float32, device=logits_PV.device)
    # Loops have no gradient of their own; the only caller in training computes it here.
    if use_loops(logits_PV, losses_P) and logits_PV.is_contiguous() and not logits_PV.requires_grad:
        labels = flat(labels_P.contiguous())
        compiled.cross_entropy(array(logits_PV), labels, IGNORED, np.float32(z_loss), replaces, flat(losses_P))
        return losses_P.sum()
    counts_P1 = (labels_P != IGNORED).float()[:, None]
    labels_P = labels_P.clamp(min=0)
    size = max(1, ENTRIES_AT_ONCE[device or logits_PV.device.type] // logits_PV.shape[1])
    for start in range(0, len(labels_P), size):
        rows = slice(start, start + size)
        log_probabilities, labels = F.log_softmax(logits_PV[rows], -1, dtype=torch.float32), labels_P[rows, None]
        of_labels = log_probabilities.gather(1, labels)
        losses_P[rows] = of_labels[:, 0].neg()
        log_z = logits_PV[rows].gather(1, labels).float() - of_labels if z_loss else None
        if log_z is not None:
            losses_P[rows] += z_loss * log_z[:, 0].square()
        if replaces:
            ones = log_probabilities.new_full(labels.shape, -1.0)
            probabilities = log_probabilities.exp_()
            if log_z is not None:
                probabilities.mul_(1 + 2 * z_loss * log_z)
            gradient = probabilities.scatter_add_(1, labels, ones)
            torch.mul(gradient, counts_P1[rows], out=logits_PV[rows])
    return losses_P.mul_(counts_P1[:, 0]).sum()


ROW_MULTIPLE = {"cpu": 1, "cuda": 64}
"""The weight is padded to a multiple of so many rows: with others a GPU takes kernels of a third of the speed."""
LOGITS_AT_ONCE = {"cpu": 2**26, "cuda": 2**29}
"""Logits in memory at once, by device."""
ENTRIES_AT_ONCE = {"cpu": 2**18, "cuda": 2**27}
"""Logits converted to fp32 at once: a megabyte fits into a core's cache, a GPU needs few large calls."""
