"""Norms of gradients, weights and updates by parameter, of whole parameters in every layout."""

import torch
from torch import Tensor

from sesame.pretrain.parallel.engine import Engine


class ParameterNorms:
    """Sums of squares of one step, around its update; the parameters are in the order of ``engine.parameters``."""

    def __init__(self, engine: Engine):
        self._engine, self._mesh = engine, engine.mesh
        self._before: dict[str, Tensor] = {}

    @torch.no_grad()
    def before_update(self) -> Tensor:
        """Keep the weights and return the sums of squares [parameters] of the averaged gradients; a collective."""
        entries = {name: self._engine.zero_state.own_entries(name) for name in self._engine.parameters}
        self._before = {name: own.clone() for name, own in entries.items() if own is not None}
        squares = torch.zeros(len(entries), device=self._mesh.device)
        for slot, parameter in enumerate(self._engine.parameters.values()):
            # One after the other: a whole model's gradients need not fit into memory.
            gradient = self._engine.averaged_gradient(parameter)
            if gradient is not None:
                squares[slot] = gradient.square().sum()
        return self._engine.zero_state.sum_squares(squares, is_divided=False)

    @torch.no_grad()
    def after_update(self) -> Tensor:
        """Return the sums of squares [2, parameters] of the weights and of their change; a collective."""
        before, self._before = self._before, {}
        squares = torch.zeros(2, len(self._engine.parameters), device=self._mesh.device)
        for slot, name in enumerate(self._engine.parameters):
            own = self._engine.zero_state.own_entries(name)
            if own is not None:
                squares[0, slot] = before[name].square().sum()
                squares[1, slot] = (own - before[name]).square().sum()
        return self._engine.zero_state.sum_squares(squares)
