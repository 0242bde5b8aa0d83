"""Base of optimizers that need norms of whole parameters, in spite of ZeRO's flat tensors."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """The ranges of one flat tensor that belong to parameters."""

    slots: tuple[int, ...]
    """Index of the parameter in the model, for each range."""
    starts: tuple[int, ...]
    lengths: tuple[int, ...]


NO_SEGMENTS = Segments((), (), ())
"""Of a flat tensor that is padding only."""


class NormScaledOptimizer(torch.optim.Optimizer):
    """Base of optimizers that scale each parameter's update by the norms of the whole parameter and its whole update.

    ZeRO gives an optimizer flat tensors with ranges of many parameters. ``set_segments`` sets the ranges and the
    reduction over processes, so that the norms are those of whole parameters in every layout.
    """

    scales_weight_decay: ClassVar[bool] = True
    """Weight decay is a part of the update and scaled with it; False: it is applied separately."""

    def __init__(self, params: Any, defaults: dict[str, Any]):
        super().__init__(params, defaults)
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        self.set_segments(
            {id(tensor): Segments((slot,), (0,), (tensor.numel(),)) for slot, tensor in enumerate(tensors)},
            [tensor.numel() for tensor in tensors],
            lambda squares: squares,
        )

    def set_segments(
        self, segments: dict[int, Segments], entries: list[int], complete: Callable[[Tensor], Tensor]
    ) -> None:
        """Set where parameters are in the tensors of the parameter groups.

        Args:
            segments: by ``id`` of a tensor of the parameter groups.
            entries: number of entries of each whole parameter of the model, by slot.
            complete: a collective: [2, slots] sums of squares over this process's ranges -> over whole parameters.
        """
        self.segments, self.entries, self.complete = segments, entries, complete

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every tensor that has a gradient."""
        tensors = [(group, tensor) for group in self.param_groups for tensor in group["params"]]
        if not tensors:
            return
        updates = [(group, tensor, self._update(group, tensor)) for group, tensor in tensors if tensor.grad is not None]
        squares = torch.zeros(2, len(self.entries), dtype=torch.float32, device=tensors[0][1].device)
        for _, tensor, update in updates:
            for slot, weights, change in self._ranges(tensor, update):
                squares[0, slot] += weights.square().sum()
                squares[1, slot] += change.square().sum()
        weight_norm, update_norm = self.complete(squares).sqrt()
        scale = self._scale(weight_norm, update_norm)
        for group, tensor, update in updates:
            for slot, weights, change in self._ranges(tensor, update):
                if not self.scales_weight_decay:
                    weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.sub_(change * (group["lr"] * scale[slot]))

    @abstractmethod
    def _update(self, group: dict[str, Any], tensor: Tensor) -> Tensor:
        """Update the moments of ``tensor`` from its gradient, and return its unscaled update."""

    @abstractmethod
    def _scale(self, weight_norm: Tensor, update_norm: Tensor) -> Tensor:
        """Return the factor of each update, [slots], from the norms of parameters and of updates, [slots]."""

    def _ranges(self, tensor: Tensor, update: Tensor) -> Iterable[tuple[int, Tensor, Tensor]]:
        """Yield (slot, weights, update) of each segment, as views."""
        flat, flat_update = tensor.view(-1), update.view(-1)
        for slot, start, length in zip(*self.segments.get(id(tensor), NO_SEGMENTS), strict=True):
            yield slot, flat.narrow(0, start, length), flat_update.narrow(0, start, length)
