"""Which parameters are matrices from hidden states to hidden states, and how each is divided into them.

Muon orthogonalizes these; embeddings, projections to the vocabulary, to classes or to experts, biases and norms keep
AdamW (Jordan et al. 2024). Names are those of the learner.
"""

import fnmatch
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from torch import Tensor


class MatrixLayout(NamedTuple):
    """How a parameter is divided into matrices."""

    view: Callable[[Tensor], Tensor]
    """The parameter, or its part of some cells or experts -> [matrices, rows, columns], sharing its memory."""
    is_stacked: bool = False
    """Its first dimension counts matrices, which lie one after the other in memory."""


WHOLE = MatrixLayout(lambda weight: weight.unsqueeze(0))
EXPERTS = MatrixLayout(lambda weight: weight, is_stacked=True)
"""[E, rows, columns]: each expert is a matrix of its own."""
FILTERS = MatrixLayout(lambda weight: weight.flatten(1).unsqueeze(0))
"""A convolution [outputs, inputs, width], as the product that it is at each position."""
GATES = MatrixLayout(lambda weight: weight.unflatten(0, (-1, 4)).transpose(0, 1))
"""An LSTM's [4 C, inputs], whose four gates of a cell are neighbours: each gate is a matrix of its own."""

MATRICES: dict[str, MatrixLayout] = {
    "*attention.query.weight": WHOLE,
    "*attention.key.weight": WHOLE,
    "*attention.value.weight": WHOLE,
    "*attention.output.weight": WHOLE,
    "*feed_forward.up.weight": WHOLE,
    "*feed_forward.gate.weight": WHOLE,
    "*feed_forward.down.weight": WHOLE,
    "*experts.up": EXPERTS,
    "*experts.gate": EXPERTS,
    "*experts.down": EXPERTS,
    "*character_encoder.filters.*.weight": FILTERS,
    "*character_encoder.highways.*.weight": WHOLE,
    "*character_encoder.carries.*.weight": WHOLE,
    "*character_encoder.projection.weight": WHOLE,
    "*_layers.*.gates.weight": GATES,
    "*_layers.*.recurrent.weight": GATES,
    "*_layers.*.output.weight": WHOLE,
    "*.embedding_projection.weight": WHOLE,
    "objectives.*.dense.weight": WHOLE,
    "objectives.*.pooler.weight": WHOLE,
}
"""Pattern of names -> layout."""
NOT_MATRICES = (
    "*embedding.weight",
    "*value_embeddings.*.weight",
    "*position_bias.weight",
    "*.router.weight",
    "objectives.*.projection.weight",
    "objectives.*.classifier.weight",
)
"""Parameters of two dimensions that look up rows, or whose rows are vectors of words, classes or experts."""


@cache
def layout_of(name: str) -> MatrixLayout | None:
    """Return how the parameter ``name`` is divided into matrices; None if it has none."""
    return next((layout for pattern, layout in MATRICES.items() if fnmatch.fnmatchcase(name, pattern)), None)
