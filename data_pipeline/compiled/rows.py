"""Compiled loops that copy rows of unequal length."""

import numpy as np

from sesame.data_pipeline.compiled import compiled


@compiled
def lay_out(ids, spans, begin, separator, paired):
    """Lay out examples with special tokens.

    Args:
        ids: [tokens] of the text.
        spans: int64 [examples, 6]: the fields of ``Example``.
        begin, separator: special ids before and after the spans.
        paired: whether examples have two spans.

    Returns:
        ([tokens] of all examples, int64 [examples + 1] where each starts).
    """
    offsets = np.zeros(len(spans) + 1, np.int64)
    for row in range(len(spans)):
        length = spans[row, 1] - spans[row, 0] + spans[row, 3] - spans[row, 2]
        offsets[row + 1] = offsets[row] + length + (3 if paired else 2)
    values = np.empty(offsets[-1], ids.dtype)
    for row in range(len(spans)):
        end = offsets[row]
        values[end] = begin
        end += 1
        for segment in range(2 if paired else 1):
            span = ids[spans[row, 2 * segment] : spans[row, 2 * segment + 1]]
            values[end : end + len(span)] = span
            values[end + len(span)] = separator
            end += len(span) + 1
    return values, offsets


@compiled
def take(values, offsets, rows):
    """Return rows of unequal length in a given order as (values, int64 [rows + 1] where each starts)."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    for number in range(len(rows)):
        bounds[number + 1] = bounds[number] + offsets[rows[number] + 1] - offsets[rows[number]]
    taken = np.empty(bounds[-1], values.dtype)
    for number in range(len(rows)):
        start = offsets[rows[number]]
        for place in range(bounds[number + 1] - bounds[number]):
            taken[bounds[number] + place] = values[start + place]
    return taken, bounds
