"""What every row of a dataset must be, by its recipe. Pure numpy over many rows; the first row that is not is named."""

import re
from typing import Any, NamedTuple, Self

import numpy as np

from data_pipeline.dataset.manifest import Manifest
from data_pipeline.ragged import Columns, Ragged
from data_pipeline.verification.reference_tokenizer import ReferenceTokenizer

PAIRS = ("next_sentence", "sentence_order")
SENTINEL = re.compile(r"<extra_id_(\d+)>")
WHOLE_WORDS = ("masked_words", "masked_ngrams")
"""Kinds of corruption that hide all pieces of a word or none."""


class Rules(NamedTuple):
    """What the rows of one split are held against."""

    special: dict[str, int]
    vocabulary_size: int
    longest: int
    """Tokens of a row, at most."""
    segment_kind: str
    corrupt: dict[str, Any]
    specials: int
    """Special tokens in each row."""
    documents: np.ndarray
    """uint64 [documents of the split]: equal where two numbers stand for one document."""
    tokenizer: ReferenceTokenizer
    sentinels: np.ndarray
    """Ids of the tokenizer's, in order."""

    @classmethod
    def of(cls, manifest: Manifest, tokenizer: ReferenceTokenizer, documents: np.ndarray) -> Self:
        segment = manifest.recipe["segment"]
        return cls(
            manifest.tokenizer.special,
            manifest.tokenizer.vocabulary_size,
            segment["sequence_length"],
            segment["kind"],
            manifest.recipe["corrupt"],
            specials(manifest),
            documents,
            tokenizer,
            sentinels(manifest.tokenizer.special),
        )


def sentinels(special: dict[str, int]) -> np.ndarray:
    """Ids that stand for hidden spans, in the order of their numbers."""
    found = ((int(match[1]), token) for name, token in special.items() if (match := SENTINEL.fullmatch(name)))
    return np.array([token for _, token in sorted(found)], np.int64)


def specials(manifest: Manifest) -> int:
    """Special tokens of each row: [CLS] a [SEP], and for pairs b [SEP]."""
    return 3 if manifest.recipe["segment"]["kind"] in PAIRS else 2


def expected(lengths: np.ndarray, corrupt: dict[str, Any]) -> np.ndarray:
    """float [rows]: predictions of rows of so many text tokens, on average, where each token is a unit."""
    most = corrupt["maximum_predictions"] or np.inf
    return np.minimum(np.maximum(1, lengths * corrupt["mask_probability"]), np.minimum(most, lengths))


def broken(columns: Columns, rules: Rules) -> tuple[int, str] | None:
    """The first row that breaks a promise, and which; None where all are kept."""
    checks = _tokens(columns, rules) | _documents(columns, rules)
    # What follows looks things up by numbers, positions and ids, so it is asked only where those exist.
    if rules.segment_kind == "next_sentence" and not _first(checks):
        checks |= _random_pairs(columns, rules)
    if "mask_positions" in columns and not _first(checks):
        checks |= _predictions(columns, rules)
        if not _first(checks):
            checks |= _hidden(columns, rules)
    if "target_tokens" in columns and not _first(checks):
        checks |= _targets(columns, rules)
    return _first(checks)


def _first(checks: dict[str, np.ndarray]) -> tuple[int, str] | None:
    for problem, good in checks.items():
        if not np.all(good):
            return int(np.argmin(good)), problem
    return None


def _tokens(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    tokens, first, special = _ragged(columns, "tokens"), columns["first_segment_length"], rules.special
    assert not isinstance(first, Ragged)
    lengths = tokens.lengths
    fits = (lengths >= 3) & (lengths <= rules.longest)
    if not fits.all():
        return {f"is not between 3 and {rules.longest} tokens long": fits}
    known = np.bincount(_owners(tokens)[tokens.values >= rules.vocabulary_size], minlength=len(lengths)) == 0
    separators = np.bincount(
        _owners(tokens)[np.isin(tokens.values, (special["cls"], special["sep"], special["pad"]))],
        minlength=len(lengths),
    )
    return {
        "does not begin with [CLS]": tokens.values[tokens.offsets[:-1]] == special["cls"],
        "does not end with [SEP]": tokens.values[tokens.offsets[1:] - 1] == special["sep"],
        "has no [SEP] where the first segment ends": (first >= 2)
        & (first <= lengths)
        & (tokens.values[tokens.offsets[:-1] + np.clip(first, 1, lengths) - 1] == special["sep"]),
        "has a special token in its text": separators == rules.specials,
        "holds ids that the tokenizer does not have": known,
    }


def _documents(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    names = [name for name in ("document", "second_document") if name in columns]
    return {
        f"names a {name.replace('_', ' ')} that does not exist": np.asarray(columns[name]) < len(rules.documents)
        for name in names
    }


def _random_pairs(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    """The second segment is of another document where the label says so, and nowhere else."""
    first, second = (np.asarray(columns[name]).astype(np.int64) for name in ("document", "second_document"))
    labels = np.asarray(columns["pair_labels"])
    same = rules.documents[first] == rules.documents[second]
    return {
        "has a pair label that its documents contradict": (first != second) == labels,
        "has a random partner that is of the same document": ~(same & (labels == 1)),
    }


def _predictions(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    tokens, positions, labels = (_ragged(columns, name) for name in ("tokens", "mask_positions", "mask_labels"))
    owner = _owners(positions)
    rising = (np.diff(positions.values.astype(np.int64), prepend=-1) > 0) | (np.diff(owner, prepend=-1) > 0)
    inside = (positions.values < tokens.lengths[owner]) & rising
    bad = np.bincount(owner[~inside], minlength=len(tokens.lengths)) > 0
    foreign = _owners(labels)[labels.values >= rules.vocabulary_size]
    bad |= np.bincount(foreign, minlength=len(tokens.lengths)) > 0
    return {"predicts positions or ids that do not exist": ~bad & (positions.lengths == labels.lengths)}


def _hidden(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    tokens, positions, labels = (_ragged(columns, name) for name in ("tokens", "mask_positions", "mask_labels"))
    chosen = positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)
    special = np.isin(labels.values, [rules.special[name] for name in ("cls", "sep", "pad")])
    structural = np.isin(tokens.values[chosen], [rules.special[name] for name in ("cls", "sep")]) | special
    least, most = _budgets(tokens.lengths - rules.specials, rules.corrupt)
    exact, rows = rules.corrupt["kind"] not in WHOLE_WORDS, len(tokens.lengths)
    checks = {
        "predicts a special token": np.bincount(_owners(positions)[structural], minlength=rows) == 0,
        "has more predictions than its recipe allows": positions.lengths <= most,
        "has fewer predictions than its recipe asks for": positions.lengths >= (least if exact else 1),
    }
    if not exact:
        checks["hides a part of a word"] = _whole(tokens, chosen, labels, least, rules)
    unseen = tokens.values == rules.special["mask"]
    unseen[chosen] = False
    checks["has a mask where nothing is predicted"] = np.bincount(_owners(tokens)[unseen], minlength=rows) == 0
    return checks


def _targets(columns: Columns, rules: Rules) -> dict[str, np.ndarray]:
    """Rows and targets must hold the same sentinels, and as much text as the recipe asks for."""
    tokens, targets = _ragged(columns, "tokens"), _ragged(columns, "target_tokens")
    rows = len(tokens.lengths)
    marked = [np.isin(column.values, rules.sentinels) for column in (tokens, targets)]
    spans, written = (
        np.bincount(_owners(column)[mark], minlength=rows)
        for column, mark in zip((tokens, targets), marked, strict=True)
    )
    last = targets.offsets[1:] - 1
    ends = (targets.lengths >= 3) & (targets.values[last] == rules.special["sep"])
    if not (ends.all() and np.array_equal(spans, written) and spans.max(initial=0) <= len(rules.sentinels)):
        return {
            "has a target that does not end with [SEP]": ends,
            "has other sentinels than its target": spans == written,
        }
    order = rules.sentinels[np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)]
    owners = np.repeat(np.arange(rows), spans)
    wrong = np.zeros(rows, bool)
    for column, mark in zip((tokens, targets), marked, strict=True):
        wrong[owners[column.values[mark] != order]] = True
    # What follows a sentinel, and what a target begins with.
    empty = np.bincount(_owners(targets)[marked[1] & np.append(marked[1][1:], False)], minlength=rows) > 0
    empty |= marked[1][last - 1]
    strange = np.isin(targets.values, [rules.special[name] for name in ("cls", "sep", "pad")])
    strange |= targets.values >= rules.vocabulary_size
    hidden = targets.lengths - spans - 1
    asked = _spans_asked(tokens.lengths - 2 - spans + hidden, rules.corrupt)
    return {
        "has sentinels out of order": ~wrong & marked[1][targets.offsets[:-1]],
        "hides a span without a token": ~empty,
        "has a special token in its target": np.bincount(_owners(targets)[strange], minlength=rows) == 1,
        f"was longer than {rules.longest} tokens": tokens.lengths - spans + hidden <= rules.longest,
        "hides another number of tokens than its recipe asks for": hidden == asked[0],
        "hides another number of spans than its recipe asks for": spans == asked[1],
    }


def _budgets(lengths: np.ndarray, corrupt: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Fewest and most predictions of a row of so many text tokens: its share, rounded down or up by chance."""
    share = lengths * corrupt["mask_probability"]
    most = np.minimum(corrupt["maximum_predictions"] or np.inf, lengths)
    # A hair to both sides, because the share is a product of floating-point numbers.
    low, high = np.maximum(1, np.floor(share - 1e-6)), np.maximum(1, np.ceil(share + 1e-6))
    return np.minimum(low, most), np.minimum(high, most)


def _spans_asked(lengths: np.ndarray, corrupt: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Hidden tokens and spans of rows of so many text tokens (Raffel et al. 2020, ``random_spans_noise_mask``)."""
    hidden = np.minimum(np.maximum(np.round(lengths * corrupt["mask_probability"]), 1), np.maximum(lengths - 1, 1))
    spans = np.maximum(np.round(hidden / corrupt["mean_span_length"]), 1)
    return hidden, np.minimum(spans, np.minimum(hidden, np.maximum(lengths - hidden, 1)))


def _whole(tokens: Ragged, chosen: np.ndarray, labels: Ragged, least: np.ndarray, rules: Rules) -> np.ndarray:
    """bool [rows]: every word is predicted entirely or not at all, or the row had room for one unit's head only.

    That unit begins with a word, is predicted from its beginning without a gap, uses up the budget, and no word of the
    row would have fitted in its place.
    """
    original = tokens.values.copy()
    original[chosen] = labels.values
    predicted = np.zeros(len(original), bool)
    predicted[chosen] = True
    structural = np.isin(original, (rules.special["cls"], rules.special["sep"]))
    begins = rules.tokenizer.begins_word[original] | structural
    begins[1:] |= (structural | rules.tokenizer.ends_word[original])[:-1]
    word = np.cumsum(begins) - 1
    size, hidden = np.bincount(word), np.bincount(word, weights=predicted)
    owner, rows = _owners(tokens), len(tokens.lengths)
    owner_of_word = owner[begins]
    partial = np.bincount(owner_of_word[(hidden > 0) & (hidden < size)], minlength=rows) > 0
    starts = predicted & ~np.append(False, predicted[:-1])
    runs = np.bincount(owner[starts], minlength=rows)
    headless = np.bincount(owner[starts & ~begins], minlength=rows) > 0
    touched = np.bincount(owner_of_word[hidden > 0], minlength=rows)
    longest = rules.corrupt["maximum_ngram"] if rules.corrupt["kind"] == "masked_ngrams" else 1
    alone = (runs == 1) & ~headless & (labels.lengths >= least) & (touched <= longest)
    if longest == 1:
        fits = (size <= labels.lengths[owner_of_word]) & ~structural[begins]
        alone &= np.bincount(owner_of_word[fits], minlength=rows) == 0
    return ~partial | alone


def _owners(column: Ragged) -> np.ndarray:
    return np.repeat(np.arange(len(column.lengths)), column.lengths)


def _ragged(columns: Columns, name: str) -> Ragged:
    column = columns[name]
    assert isinstance(column, Ragged)
    return column
