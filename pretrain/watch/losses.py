"""The loss of every micro-batch of a step, of all processes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sesame.pretrain.batch import on_device
from sesame.pretrain.device_number import DeviceNumber
from sesame.pretrain.parallel.mesh import Mesh


class StepLosses:
    """Collects this process's micro-batch losses, without waiting for the device."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self.weights: dict[str, float] = {}
        """Of the objectives in the total losses that were added last."""
        self._weights = torch.empty(0)
        self._totals: list[Tensor] = []

    def add(self, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        """Add a micro-batch's losses by objective.

        Args:
            weights: of the objectives in the total loss.
        """
        if weights != self.weights:
            self.weights = dict(weights)
            self._weights = on_device(torch.tensor(list(weights.values())), self._mesh.device)
        self._totals.append(torch.stack([losses[name] for name in weights]).float() @ self._weights)

    def collect(self, accumulation: int) -> DeviceNumber:
        """Return [micro-batches of a process, data-parallel processes] total losses, whose mean is the step's; a
        collective.

        Args:
            accumulation: what the sum over a process's micro-batches is divided by; with a token budget it is 1,
                however many they are.
        """
        totals, self._totals = torch.stack(self._totals), []
        return gather_by_rank(totals * (len(totals) / accumulation), self._mesh)


def gather_by_rank(own_A: Tensor, mesh: Mesh) -> DeviceNumber:
    """Return [A, data-parallel processes] from one value of this process for each of A micro-batches; a collective."""
    if mesh.data == 1:
        return DeviceNumber(own_A[:, None])
    # A sum, because it takes no list of buffers: every entry but one is zero, and what is not finite stays so.
    all_AR = own_A.new_zeros(len(own_A), mesh.data)
    all_AR[:, mesh.data_rank] = own_A
    return DeviceNumber(mesh.sum_over_data(all_AR))
