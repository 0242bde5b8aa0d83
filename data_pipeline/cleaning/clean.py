"""Normalize documents and drop those that are not usable text, counted by reason."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from sesame.data_pipeline.characters import cleaning_kinds
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.language import language
from sesame.data_pipeline.cleaning.overlap import Overlap
from sesame.data_pipeline.cleaning.quality import QUALITY, REPETITION, Rule, broken_rule
from sesame.data_pipeline.compiled.whitespace import normalize_whitespace
from sesame.data_pipeline.sources.document import Document

LINE_END, FORM_FEED = re.compile(r"\r\n?"), re.compile(r"[\x0b\x0c\x1c-\x1f]")
REMOVED = re.compile("[\x00-\x08\x0e-\x1b\x7f\u200b\u2060\ufeff]")
BLANK_LINES_BEFORE = re.compile(r"\A(?:[ \t]*\n)+")
"""Normalized even if white space is kept."""
RULES: dict[str, tuple[Rule, ...]] = {"gopher_quality": QUALITY, "gopher_repetition": REPETITION}


def clean(
    documents: Iterable[Document],
    config: CleanConfig,
    dropped: Counter[str],
    overlap: Overlap | None = None,
    changed: Counter[str] | None = None,
    lost: Counter[str] | None = None,
) -> Iterator[Document]:
    """Yield the normalized documents that pass all filters.

    Args:
        dropped: counts the other documents by reason.
        overlap: sequences of evaluation texts that documents must not contain.
        changed: counts changes to documents that pass.
        lost: counts the characters of dropped documents by reason.
    """
    for document in documents:
        repaired = repair(document.text) if config.repair_unicode else document.text
        cleaned = normalize(repaired, config.unicode_form, keep_white_space=config.white_space == "kept")
        text, reason = cleaned.text, _drop_reason(cleaned, config)
        if reason is None and config.languages and (code := language(text)) not in config.languages:
            reason = f"language: {code}"
        if reason is None and overlap is not None and overlap.is_in(text):
            reason = "holds evaluation text"
        if reason:
            dropped[reason] += 1
            if lost is not None:
                lost[reason] += len(text)
        else:
            if changed is not None and repaired != document.text:
                changed["repaired"] += 1
            yield Document(text, document.source)


def repair(text: str) -> str:
    """Undo the decoding of ``text`` with a wrong encoding, and change nothing else."""
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)


class CleanText(NamedTuple):
    """A normalized text and its counts."""

    text: str
    letters: int
    visible: int
    """Characters other than white space."""

    @property
    def letter_share(self) -> float:
        """Share of the visible characters that are letters of any script."""
        return self.letters / max(1, self.visible)


def normalize(text: str, form: Literal["NFC", "NFKC"], *, keep_white_space: bool = False) -> CleanText:
    """Convert to a Unicode normal form without control characters, with single spaces and one blank line between
    paragraphs.

    Args:
        keep_white_space: remove only blank lines at the beginning and white space at the end.
    """
    normal = text if text.isascii() else unicodedata.normalize(form, text)
    data = np.frombuffer(normal.encode(), np.uint8)
    single_spaced, letters, visible = normalize_whitespace(data, cleaning_kinds())
    cleaned = _remove_controls(normal) if keep_white_space else single_spaced.tobytes().decode()
    return CleanText(cleaned, letters, visible)


def _remove_controls(text: str) -> str:
    return BLANK_LINES_BEFORE.sub("", REMOVED.sub("", FORM_FEED.sub(" ", LINE_END.sub("\n", text)))).rstrip()


def normal_text(text: str, rules: CleanConfig) -> str:
    """Normalize ``text`` as documents are, to compare other texts with them."""
    return normalize(repair(text) if rules.repair_unicode else text, rules.unicode_form).text


def fingerprint(text: str) -> bytes:
    """Return a hash of 16 bytes that identifies duplicates and decides which documents are for validation."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _drop_reason(cleaned: CleanText, config: CleanConfig) -> str | None:
    if len(cleaned.text) < config.minimum_characters:
        return "short"
    if cleaned.letter_share < config.minimum_letter_share:
        return "not prose"
    if config.rules:
        broken = broken_rule(cleaned.text, [rule for name in config.rules for rule in RULES[name]])
        return f"gopher: {broken}" if broken else None
    return None
