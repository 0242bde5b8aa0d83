"""Counts of dropped text, and the warnings of ``sesame prepare``: dropped or unused text, sentences longer than a row,
imbalanced labels."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from sesame.data_pipeline.cleaning.parts import Reading
from sesame.data_pipeline.cleaning.selection import DROPPED, Choice, Outcome
from sesame.data_pipeline.dataset.manifest import Manifest

LARGEST_SHARE = 0.03
"""Share of the text that may be lost for one reason without a warning."""
SMALLEST_LABEL_SHARE = 0.35
"""Share of the rarer of two labels below which there is a warning."""
READ, DROP = "characters read", "characters dropped: "
TOKENS, LONG, UNUSED, UNKNOWN = "tokens", "tokens of sentences longer than a row", "tokens in no row", "tokens unknown"
INTENDED = ("beyond the limit", "beyond the weight")
"""Reasons without a warning, because the configuration asks for them."""
SETTINGS = {
    "short": "clean.minimum_characters",
    "not prose": "clean.minimum_letter_share",
    "language": "clean.languages",
    "gopher": "clean.rules",
    "holds evaluation text": "clean.evaluation_paths",
    "duplicate": "clean.drop_duplicates",
    "near duplicate": "clean.drop_near_duplicates",
}
"""Reason for dropping, up to a colon -> the setting that controls it."""


def count_characters(readings: Sequence[Reading], choices: Sequence[Choice]) -> dict[str, int]:
    """Count characters read, and characters of dropped documents by reason."""
    lost: Counter[str] = Counter()
    read = 0
    for reading in readings:
        read += sum((reading.lost or {}).values())
        lost.update(reading.lost or {})
    for part, choice in zip((part for reading in readings for part in reading.parts), choices, strict=True):
        each = np.bincount(choice.outcomes, part.characters, minlength=len(Outcome))
        read += int(each.sum())
        lost.update({reason: int(each[outcome]) for outcome, reason in DROPPED.items()})
    dropped = {f"{DROP}{reason}": count for reason, count in sorted(lost.items()) if count}
    return {READ: read, **dropped}


def warnings(manifest: Manifest) -> list[str]:
    """Return one sentence for each likely problem of a complete dataset."""
    return [*_dropped(manifest.text), *_tokens(manifest.text), *_labels(manifest)]


def _dropped(text: dict[str, int]) -> Iterable[str]:
    for name, count in text.items():
        reason = name.removeprefix(DROP)
        share = count / max(1, text[READ])
        if name.startswith(DROP) and share > LARGEST_SHARE and reason not in INTENDED:
            setting = SETTINGS.get(reason.split(":")[0])
            yield f"{share:.1%} of the text is dropped as '{reason}'" + (f"; {setting} decides that" if setting else "")


def _tokens(text: dict[str, int]) -> Iterable[str]:
    tokens = max(1, text.get(TOKENS, 0))
    if (share := text.get(LONG, 0) / tokens) > 0.5:
        yield (
            f"{share:.1%} of the tokens are in sentences longer than a row, which are cut; if the text has no marks at "
            "the ends of sentences, segment.kind = 'contiguous' fits it, else a longer segment.sequence_length"
        )
    if (share := text.get(UNUSED, 0) / tokens) > LARGEST_SHARE:
        yield f"{share:.1%} of the tokens are in no row: documents of one sentence have no pair of sentences"
    if (share := text.get(UNKNOWN, 0) / tokens) > LARGEST_SHARE:
        yield f"{share:.1%} of the tokens are unknown to the tokenizer; give one that was made for this text"


def _labels(manifest: Manifest) -> Iterable[str]:
    share = manifest.pair_share
    if share is not None and not SMALLEST_LABEL_SHARE <= share <= 1 - SMALLEST_LABEL_SHARE:
        yield (
            f"{share:.1%} of the pairs have label 1, so that the label can be guessed; give documents of several "
            "sentences, and more than one document, or another segment.kind"
        )
