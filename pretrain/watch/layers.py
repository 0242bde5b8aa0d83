"""Each layer of a model at chosen steps: norms, ratio of update and weights, activations, entropy of attention."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from sesame.configs.json_lines import finite_or_none
from sesame.pretrain.batch import Batch
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.norms import ParameterNorms
from sesame.pretrain.watch.activations import ActivationMeter

LAYER = re.compile(r".*?\.\w*(?:blocks|layers)\.\d+")
"""The part of a parameter's name that names a layer of a stack."""

Layers = Mapping[str, Mapping[str, float | None]]
"""By layer and by name of the number; None for a number that is not finite."""


class LayerMeter:
    """Measures the layers of an engine's model every few steps; nothing in between."""

    def __init__(self, every_steps: int, engine: Engine, report: Callable[[int, Layers], None]):
        """
        Args:
            every_steps: 0: never.
            report: takes the step and its numbers, in every process.
        """
        self._every_steps, self._engine, self._report = every_steps, engine, report

    @contextmanager
    def around_update(self, step: int, batch: Callable[[], Batch]) -> Iterator[None]:
        """Measure the update of ``step`` (from 1), if it is due; a collective.

        Args:
            batch: returns a micro-batch of this process, whose activations are measured, without dropout, after the
                update.
        """
        if not self._every_steps or step % self._every_steps:
            yield
            return
        norms = ParameterNorms(self._engine)
        gradients = norms.before_update()
        yield
        weights, changes = norms.after_update()
        layers = self._by_layer(gradients, weights, changes)
        for name, numbers in ActivationMeter(self._engine).measure(batch()).items():
            layers.setdefault(name, {}).update({key: finite_or_none(value) for key, value in numbers.items()})
        self._report(step, layers)

    def _by_layer(self, *squares: Tensor) -> dict[str, dict[str, float | None]]:
        names = list(dict.fromkeys(layer_of(name) for name in self._engine.parameters))
        slots = [names.index(layer_of(name)) for name in self._engine.parameters]
        sums = torch.zeros(len(squares), len(names), dtype=torch.float64)
        index = torch.tensor(slots)
        for row, values in zip(sums, squares, strict=True):
            row.index_add_(0, index, values.double().cpu())
        norms = sums.sqrt().tolist()
        return {
            name: {
                "gradient_norm": finite_or_none(gradient),
                "weight_norm": finite_or_none(weight),
                "update_ratio": finite_or_none(change / weight if weight else 0.0),
            }
            for name, gradient, weight, change in zip(names, *norms, strict=True)
        }


def layer_of(parameter: str) -> str:
    """Return the layer that a parameter belongs to: ``backbone.blocks.3``, ``backbone.token_embedding``."""
    match = LAYER.match(parameter)
    return match[0] if match else ".".join(parameter.split(".")[:2])
