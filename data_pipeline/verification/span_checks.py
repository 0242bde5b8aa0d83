"""Checks of masked spans: sentinels in rows and targets, and how many tokens and spans are masked."""

from typing import Any

import numpy as np

from sesame.data_pipeline.ragged import Columns
from sesame.data_pipeline.verification.row_rules import RowRules, count_by_row, ragged, row_of_value


def check_spans(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    """Rows and targets have the same sentinels in order, and as many masked tokens and spans as the recipe asks for."""
    tokens, targets = ragged(columns, "tokens"), ragged(columns, "target_tokens")
    rows = len(tokens.lengths)
    in_tokens, in_targets = (np.isin(column.values, rules.sentinels) for column in (tokens, targets))
    spans = count_by_row(in_tokens, row_of_value(tokens), rows)
    target_spans = count_by_row(in_targets, row_of_value(targets), rows)
    last = targets.offsets[1:] - 1
    ends = (targets.lengths >= 3) & (targets.values[last] == rules.special["sep"])
    if not (ends.all() and np.array_equal(spans, target_spans) and spans.max(initial=0) <= len(rules.sentinels)):
        return {
            "has a target that does not end with [SEP]": ends,
            "has other sentinels than its target": spans == target_spans,
        }
    expected = rules.sentinels[np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)]
    row_of_span = np.repeat(np.arange(rows), spans)
    out_of_order = np.zeros(rows, bool)
    for column, is_sentinel in ((tokens, in_tokens), (targets, in_targets)):
        out_of_order[row_of_span[column.values[is_sentinel] != expected]] = True
    # A span is empty if the next token is a sentinel, or the [SEP] at the end.
    followed_by_sentinel = in_targets & np.append(in_targets[1:], False)
    empty = count_by_row(followed_by_sentinel, row_of_value(targets), rows) > 0
    empty |= in_targets[last - 1]
    special = np.isin(targets.values, [rules.special[name] for name in ("cls", "sep", "pad")])
    special |= targets.values >= rules.vocabulary_size
    masked = targets.lengths - spans - 1
    expected_masked, expected_spans = _expected_spans(tokens.lengths - 2 - spans + masked, rules.corrupt)
    return {
        "has sentinels out of order": ~out_of_order & in_targets[targets.offsets[:-1]],
        "masks a span without a token": ~empty,
        "has a special token in its target": count_by_row(special, row_of_value(targets), rows) == 1,
        f"was longer than {rules.longest} tokens": tokens.lengths - spans + masked <= rules.longest,
        "masks another number of tokens than its recipe asks for": masked == expected_masked,
        "masks another number of spans than its recipe asks for": spans == expected_spans,
    }


def _expected_spans(lengths: np.ndarray, corrupt: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Masked tokens and spans of rows of ``lengths`` text tokens (Raffel et al. 2020, ``random_spans_noise_mask``)."""
    masked = np.minimum(np.maximum(np.round(lengths * corrupt["mask_probability"]), 1), np.maximum(lengths - 1, 1))
    spans = np.maximum(np.round(masked / corrupt["mean_span_length"]), 1)
    return masked, np.minimum(spans, np.minimum(masked, np.maximum(lengths - masked, 1)))
