"""Segments -> text with spans masked, and what to write in their place (T5, Raffel et al. 2020, section 3.1.4).

    row      [CLS] thank you for inviting me to your party last week [SEP]
    tokens   [CLS] thank you <extra_id_0> me to your party <extra_id_1> week [SEP]
    target   <extra_id_0> for inviting <extra_id_1> last [SEP]

As in T5's published code, a row begins with a kept span and ends with a masked one. Pure numpy over a whole part at
once.
"""

from typing import NamedTuple

import numpy as np

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.ragged import Columns, Ragged, boundaries
from sesame.data_pipeline.tokenizers.special_tokens import SENTINEL
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


class MaskedSpans(NamedTuple):
    """Rows with their spans taken out."""

    tokens: Ragged
    """[CLS] kept sentinel kept sentinel ... [SEP]."""
    targets: Ragged
    """sentinel span sentinel span ... [SEP]."""

    def columns(self) -> Columns:
        """As a shard names them; each row is one segment."""
        lengths = self.tokens.lengths.astype(np.uint16)
        return {"tokens": self.tokens, "first_segment_length": lengths, "target_tokens": self.targets}


def counts(lengths: np.ndarray, config: CorruptConfig) -> tuple[np.ndarray, np.ndarray]:
    """int64 [rows] masked tokens, and spans that they lie in, of rows of so many text tokens.

    Where it can be, a token is kept before each span, so that no two of them touch.
    """
    masked = np.rint(lengths * config.mask_probability).astype(np.int64)
    masked = np.clip(masked, 1, np.maximum(1, lengths - 1))
    spans = np.rint(masked / config.mean_span_length).astype(np.int64)
    return masked, np.clip(spans, 1, np.minimum(masked, np.maximum(1, lengths - masked)))


def sentinel_ids(special: dict[str, int]) -> np.ndarray:
    """Those of a manifest's special tokens that stand for spans, in order."""
    return np.array([token for name, token in special.items() if name.startswith(SENTINEL.split("{")[0])], np.int64)


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """What a manifest says of a tokenizer: its special tokens by role, and its sentinels by name."""
    sentinels = {SENTINEL.format(number): int(token) for number, token in enumerate(tokenizer.sentinels)}
    return tokenizer.special.ids() | sentinels


def check_sentinels(found: int, lengths: np.ndarray, config: CorruptConfig) -> None:
    """Compare the sentinels of a model with what rows of so many text tokens need.

    Raises:
        ConfigError: they are too few.
    """
    needed = int(counts(lengths, config)[1].max(initial=0))
    if needed > found:
        raise ConfigError(
            f"tokenizer.sentinels: the model has {found} sentinels, but a row of this segment.sequence_length has up "
            f"to {needed} masked spans; ask for more sentinels, shorter rows or longer spans (corrupt.mean_span_length)"
        )


def mask_spans(
    tokens: Ragged, config: CorruptConfig, sentinels: np.ndarray, separator: int, draw: np.random.Generator
) -> MaskedSpans:
    """Take random spans out of every row.

    Args:
        tokens: rows of [CLS] text [SEP], at least one token of text in each.
        sentinels: [sentinels] ids, in their order.
        separator: id that ends a target.

    Raises:
        ConfigError: there are fewer sentinels than a row has spans.
    """
    lengths = tokens.lengths - 2
    check_sentinels(len(sentinels), lengths, config)
    masked, spans = counts(lengths, config)
    kept_lengths = _partition(lengths - masked, spans, draw)
    masked_lengths = _partition(masked, spans, draw)
    firsts = boundaries(spans)
    marks = sentinels.astype(tokens.values.dtype)[np.arange(firsts[-1]) - np.repeat(firsts[:-1], spans)]
    # Where each masked span begins: after all that lies before it in its row, and each row's [CLS] and [SEP].
    rows = np.repeat(np.arange(len(spans)), spans)
    ends = np.cumsum(kept_lengths + masked_lengths) + 2 * rows + 1
    begins = ends - masked_lengths
    steps = np.zeros(len(tokens.values) + 1, np.int8)
    steps[begins] += 1
    steps[ends] -= 1
    inside = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    shown, values = ~inside, tokens.values.copy()
    shown[begins] = True
    values[begins] = marks
    offsets = boundaries(tokens.lengths - masked + spans)
    targets = _targets(tokens.values[inside], masked_lengths, rows, marks, separator)
    return MaskedSpans(Ragged(values[shown], offsets), Ragged(targets, boundaries(masked + spans + 1)))


def _targets(
    masked: np.ndarray, lengths: np.ndarray, rows: np.ndarray, marks: np.ndarray, separator: int
) -> np.ndarray:
    """Each span after its mark, and a separator after the last of each row.

    Args:
        masked: [masked] tokens of all spans end to end.
        lengths: [spans] of each.
        rows: [spans] the row of each, ascending.
        marks: [spans] the sentinel of each.
    """
    count = int(rows[-1]) + 1 if len(rows) else 0
    targets = np.full(len(masked) + len(marks) + count, separator, masked.dtype)
    places = np.cumsum(lengths + 1) - lengths - 1 + rows
    text = np.ones(len(targets), bool)
    text[places] = False
    last = np.flatnonzero(np.diff(rows, append=count))
    text[places[last] + lengths[last] + 1] = False
    targets[places] = marks
    targets[text] = masked
    return targets


def _partition(totals: np.ndarray, parts: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Cut each total into so many parts of at least one; every way to do so is equally likely.

    Args:
        totals: int64 [rows]; less than its parts only where it is 0 and they are 1.
        parts: int64 [rows].

    Returns:
        int64 [all parts] their sizes, row by row.
    """
    places = np.maximum(totals - 1, 0)
    firsts = boundaries(places)
    rows = np.repeat(np.arange(len(totals), dtype=np.uint16 if len(totals) <= 2**16 else np.uint32), places)
    # A permutation sorted by row is one in each row; of its places the first parts - 1 are cut.
    order = draw.permutation(len(rows))
    order = order[np.argsort(rows[order], kind="stable")]
    is_cut = np.zeros(len(rows), bool)
    is_cut[order[np.arange(len(rows)) - np.repeat(firsts[:-1], places) < np.repeat(parts - 1, places)]] = True
    cuts = np.flatnonzero(is_cut)
    bounds = boundaries(parts)
    ends = np.zeros(bounds[-1], np.int64)
    is_last = np.zeros(bounds[-1], bool)
    is_last[bounds[1:] - 1] = True
    ends[is_last] = totals
    ends[~is_last] = cuts - firsts[rows[cuts]] + 1
    sizes = np.diff(ends, prepend=0)
    sizes[bounds[:-1]] = ends[bounds[:-1]]
    return sizes
