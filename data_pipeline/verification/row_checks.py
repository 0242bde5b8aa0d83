"""Check rows against their recipe, many at a time in numpy; the first row that fails is reported."""

import numpy as np

from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.verification.mask_checks import check_masks, check_predictions
from sesame.data_pipeline.verification.row_rules import RowRules, count_by_row, ragged, row_of_value
from sesame.data_pipeline.verification.span_checks import check_spans


def first_failure(columns: Columns, rules: RowRules) -> tuple[int, str] | None:
    """Return the index of the first row that fails a check, and what is wrong with it; None if all rows pass."""
    checks = _check_tokens(columns, rules) | _check_documents(columns, rules)
    # The later checks use ids, positions and numbers as indices, so they run only if those are valid.
    if rules.segment_kind == "next_sentence" and not _first(checks):
        checks |= _check_random_pairs(columns, rules)
    if "mask_positions" in columns and not _first(checks):
        checks |= check_predictions(columns, rules)
        if not _first(checks):
            checks |= check_masks(columns, rules)
    if "target_tokens" in columns and not _first(checks):
        checks |= check_spans(columns, rules)
    return _first(checks)


def _first(checks: dict[str, np.ndarray]) -> tuple[int, str] | None:
    """The first row that fails the first failed check. A check is a problem -> bool [rows]: whether the row passes."""
    for problem, passes in checks.items():
        if not np.all(passes):
            return int(np.argmin(passes)), problem
    return None


def _check_tokens(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    tokens, first, special = ragged(columns, "tokens"), columns["first_segment_length"], rules.special
    assert not isinstance(first, Ragged)
    lengths, rows = tokens.lengths, row_of_value(tokens)
    fits = (lengths >= 3) & (lengths <= rules.longest)
    if not fits.all():
        return {f"is not between 3 and {rules.longest} tokens long": fits}
    unknown_ids = count_by_row(tokens.values >= rules.vocabulary_size, rows, len(lengths))
    is_special = np.isin(tokens.values, (special["cls"], special["sep"], special["pad"]))
    return {
        "does not begin with [CLS]": tokens.values[tokens.offsets[:-1]] == special["cls"],
        "does not end with [SEP]": tokens.values[tokens.offsets[1:] - 1] == special["sep"],
        "has no [SEP] where the first segment ends": (first >= 2)
        & (first <= lengths)
        & (tokens.values[tokens.offsets[:-1] + np.clip(first, 1, lengths) - 1] == special["sep"]),
        "has a special token in its text": count_by_row(is_special, rows, len(lengths)) == rules.special_tokens,
        "has ids that the tokenizer does not have": unknown_ids == 0,
    }


def _check_documents(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    names = [name for name in ("document", "second_document") if name in columns]
    return {
        f"names a {name.replace('_', ' ')} that does not exist": np.asarray(columns[name]) < len(rules.documents)
        for name in names
    }


def _check_random_pairs(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    """The second segment is from another document exactly where the label is 1."""
    first, second = (np.asarray(columns[name]).astype(np.int64) for name in ("document", "second_document"))
    labels = np.asarray(columns["pair_labels"])
    same = rules.documents[first] == rules.documents[second]
    return {
        "has a pair label that its documents contradict": (first != second) == labels,
        "has a random second segment from the same document": ~(same & (labels == 1)),
    }
