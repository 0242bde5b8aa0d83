"""Floating-point operations of a forward and backward pass (Kaplan et al. 2020, section 2.1).

Each layer, backbone and objective has a method ``flops`` made of these formulas, and ``Learner.flops`` is their sum. It
is computed from the configured shape, so it is the same when layers are split over processes. Counted are real tokens,
predicted positions and chosen experts; embeddings, norms and biases are not counted, and masks are not subtracted.
"""

from sesame.pretrain.batch import Layout


def product_flops(weights: int, uses: int) -> int:
    """6 operations for each weight and use: a multiplication and an addition, in the forward pass and, for the
    gradients of inputs and of weights, twice in the backward pass."""
    return 6 * weights * uses


def attention_flops(inner_width: int, pairs: int) -> int:
    """12 operations for each entry of the heads and each pair of query and key: scores and weighted sum of values."""
    return 12 * inner_width * pairs


def token_pairs(queries: Layout, keys: Layout) -> int:
    """Return the number of (query, key) pairs within the sequences of a batch."""
    return sum(query * key for query, key in zip(queries.lengths, keys.lengths, strict=True))
