"""Muon."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from sesame.pretrain.optimizers import uncompiled
from sesame.pretrain.optimizers.state import StateSpec, fp32_gradient

MATRIX_STATE = StateSpec(("momentum",), counts_steps=False)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration x -> a x + b x^3 + c x^5 on singular values (Jordan et al. 2024)."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7
UPDATE_RMS = 0.2
"""Root mean square of an update, that of AdamW's (Liu et al. 2025, section 2.2), so that both learn at one rate."""

Function = Callable[[Tensor], Tensor]
"""[matrices, rows, columns] -> the same shape."""


class WholeMatrices(Protocol):
    """Applies a function to whole matrices, of which the optimizer's tensors may hold ranges only."""

    def apply(self, function: Function, updates: dict[int, Tensor]) -> None:
        """Replace every matrix in ``updates`` by its value of ``function``; may be a collective.

        Args:
            updates: flat fp32 tensors, by ``id`` of the optimizer's tensor that they are laid out like.
        """
        ...


class Muon(uncompiled.AdamW):
    """Muon for matrices (Jordan et al. 2024; Liu et al. 2025, Moonlight), AdamW for the other parameters.

    The step of a matrix is its Nesterov momentum with all singular values close to 1, times 0.2 sqrt(max(rows,
    columns)). Weight decay is decoupled, as in AdamW. Parameter groups have the key ``is_matrix``.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)
        self.momentum = momentum
        self.whole_matrices: WholeMatrices | None = None
        """Until it is set, matrices are not updated: DeepSpeed calls ``step`` when it starts."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every tensor."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["is_matrix"]]
        try:
            if self.param_groups:
                super().step()
        finally:
            self.param_groups = groups
        matrices = [(group, tensor) for group in groups if group["is_matrix"] for tensor in group["params"]]
        if matrices and self.whole_matrices is not None:
            self._update_matrices(matrices, self.whole_matrices)

    def _update_matrices(self, matrices: list[tuple[dict[str, Any], Tensor]], whole: WholeMatrices) -> None:
        updates = {id(tensor): self._nesterov(tensor).view(-1) for _, tensor in matrices}
        whole.apply(direction, updates)
        for group, tensor in matrices:
            tensor.mul_(1 - group["lr"] * group["weight_decay"])
            tensor.view(-1).sub_(updates.pop(id(tensor)), alpha=group["lr"])

    def _nesterov(self, tensor: Tensor) -> Tensor:
        """Update the momentum of ``tensor`` and return its look-ahead; a missing gradient counts as zero, as in ZeRO's
        flat tensors."""
        momentum = MATRIX_STATE.of(self, tensor)["momentum"]
        gradient = torch.zeros_like(momentum) if tensor.grad is None else fp32_gradient(tensor)
        momentum.lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(momentum, self.momentum)


def direction(matrices: Tensor) -> Tensor:
    """Return the step of matrices [matrices, rows, columns] for a learning rate of 1."""
    return orthogonalize(matrices) * (UPDATE_RMS * max(matrices.shape[1:]) ** 0.5)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return U V^T of each matrix U S V^T, with singular values between about 0.7 and 1.2 in place of 1.

    Computed by the Newton-Schulz iteration of Jordan et al. 2024, in the precision of ``matrices``.

    Args:
        matrices: [matrices, rows, columns].
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    x = x / norms.clamp(min=SMALLEST_NORM).to(x.dtype)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        x = torch.baddbmm(x, polynomial, x, beta=linear)
    return x.mT if is_tall else x
