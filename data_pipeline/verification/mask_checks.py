"""Checks of masked tokens: positions, labels, how many there are, and whole words."""

from typing import Any

import numpy as np

from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.verification.row_rules import WHOLE_WORDS, RowRules, count_by_row, ragged, row_of_value


def expected_predictions(lengths: np.ndarray, corrupt: dict[str, Any]) -> np.ndarray:
    """Return float [rows]: mean predictions of rows of ``lengths`` text tokens, if tokens are masked one by one."""
    most = corrupt["maximum_predictions"] or np.inf
    return np.minimum(np.maximum(1, lengths * corrupt["mask_probability"]), np.minimum(most, lengths))


def check_predictions(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    """Positions are inside of the row and ascending, and labels are ids of the tokenizer."""
    tokens, positions, labels = (ragged(columns, name) for name in ("tokens", "mask_positions", "mask_labels"))
    rows, row = len(tokens.lengths), row_of_value(positions)
    ascending = (np.diff(positions.values.astype(np.int64), prepend=-1) > 0) | (np.diff(row, prepend=-1) > 0)
    valid = (positions.values < tokens.lengths[row]) & ascending
    wrong = count_by_row(~valid, row, rows) > 0
    wrong |= count_by_row(labels.values >= rules.vocabulary_size, row_of_value(labels), rows) > 0
    return {"predicts positions or ids that do not exist": ~wrong & (positions.lengths == labels.lengths)}


def check_masks(columns: Columns, rules: RowRules) -> dict[str, np.ndarray]:
    """Each row has as many predictions as the recipe asks for, and whole words if it asks for those."""
    tokens, positions, labels = (ragged(columns, name) for name in ("tokens", "mask_positions", "mask_labels"))
    predicted = positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)
    special_label = np.isin(labels.values, [rules.special[name] for name in ("cls", "sep", "pad")])
    special = np.isin(tokens.values[predicted], [rules.special[name] for name in ("cls", "sep")]) | special_label
    least, most = _prediction_limits(tokens.lengths - rules.special_tokens, rules.corrupt)
    single_tokens, rows = rules.corrupt["kind"] not in WHOLE_WORDS, len(tokens.lengths)
    checks = {
        "predicts a special token": count_by_row(special, row_of_value(positions), rows) == 0,
        "has more predictions than its recipe allows": positions.lengths <= most,
        "has fewer predictions than its recipe asks for": positions.lengths >= (least if single_tokens else 1),
    }
    if not single_tokens:
        checks["masks a part of a word"] = _has_whole_words(tokens, predicted, labels, least, rules)
    unpredicted_mask = tokens.values == rules.special["mask"]
    unpredicted_mask[predicted] = False
    checks["has a mask where nothing is predicted"] = count_by_row(unpredicted_mask, row_of_value(tokens), rows) == 0
    return checks


def _prediction_limits(lengths: np.ndarray, corrupt: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Fewest and most predictions of rows of ``lengths`` text tokens: the share, randomly rounded down or up."""
    share = lengths * corrupt["mask_probability"]
    most = np.minimum(corrupt["maximum_predictions"] or np.inf, lengths)
    # The tolerance is for the rounding of the product.
    low, high = np.maximum(1, np.floor(share - 1e-6)), np.maximum(1, np.ceil(share + 1e-6))
    return np.minimum(low, most), np.minimum(high, most)


def _has_whole_words(
    tokens: Ragged, predicted: np.ndarray, labels: Ragged, least: np.ndarray, rules: RowRules
) -> np.ndarray:
    """bool [rows]: every word is predicted entirely or not at all, with one exception.

    A row may predict only the beginning of one unit (a word or n-gram) if the unit is longer than the row's number of
    predictions and no word of the row fits that number.

    Args:
        predicted: int64 [predictions]: index of each predicted token in ``tokens.values``.
        least: [rows]: fewest predictions.
    """
    original = tokens.values.copy()
    original[predicted] = labels.values
    is_predicted = np.zeros(len(original), bool)
    is_predicted[predicted] = True
    is_special = np.isin(original, (rules.special["cls"], rules.special["sep"]))
    begins_word = rules.tokenizer.begins_word[original] | is_special
    begins_word[1:] |= (is_special | rules.tokenizer.ends_word[original])[:-1]
    word = np.cumsum(begins_word) - 1
    word_size, word_predictions = np.bincount(word), np.bincount(word, weights=is_predicted)
    row, rows = row_of_value(tokens), len(tokens.lengths)
    row_of_word = row[begins_word]
    has_partial_word = count_by_row((word_predictions > 0) & (word_predictions < word_size), row_of_word, rows) > 0
    begins_run = is_predicted & ~np.append(False, is_predicted[:-1])
    runs = count_by_row(begins_run, row, rows)
    begins_inside_word = count_by_row(begins_run & ~begins_word, row, rows) > 0
    words = count_by_row(word_predictions > 0, row_of_word, rows)
    longest = rules.corrupt["maximum_ngram"] if rules.corrupt["kind"] == "masked_ngrams" else 1
    is_cut_unit = (runs == 1) & ~begins_inside_word & (labels.lengths >= least) & (words <= longest)
    if longest == 1:
        fits = (word_size <= labels.lengths[row_of_word]) & ~is_special[begins_word]
        is_cut_unit &= count_by_row(fits, row_of_word, rows) == 0
    return ~has_partial_word | is_cut_unit
