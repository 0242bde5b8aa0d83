"""Normalise documents and drop those that teach nothing, each for a counted reason."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from configs import Section
from data_pipeline.characters import cleaning_kinds
from data_pipeline.cleaning.language import language
from data_pipeline.cleaning.overlap import Overlap
from data_pipeline.cleaning.quality import QUALITY, REPETITION, Rule, broken_rule
from data_pipeline.compiled.whitespace import normalize_whitespace
from data_pipeline.sources.document import Document

LINE_END, FORM_FEED = re.compile(r"\r\n?"), re.compile(r"[\x0b\x0c\x1c-\x1f]")
REMOVED = re.compile("[\x00-\x08\x0e-\x1b\x7f\u200b\u2060\ufeff]")
BLANK_LINES_BEFORE = re.compile(r"\A(?:[ \t]*\n)+")
"""What is put in order also where white space is kept."""
RULES: dict[str, tuple[Rule, ...]] = {"gopher_quality": QUALITY, "gopher_repetition": REPETITION}


class CleanConfig(Section):
    """What a document must be to stay."""

    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    """Unicode normal form of the text."""
    white_space: Literal["auto", "single", "kept"] = "auto"
    """White space inside of a text: "single" spaces and at most one blank line, or "kept" with indentation and all line
    breaks. "auto" keeps it where it reaches the model: with segment.kind "contiguous" and a given tokenizer that keeps
    line breaks (GPT-2's)."""
    repair_unicode: bool = False
    """Undo text that was decoded as the wrong encoding (\u00c3\u00a9 for \u00e9), by ftfy (Speer 2019); counted as
    "repaired"."""
    languages: tuple[str, ...] = ()
    """Codes of ISO 639-1, as ["en", "zh"]: documents of other languages are dropped as "language: xx"; none for all.
    Told by py3langid (Lui and Baldwin 2012), which the extra ``language`` installs."""
    minimum_characters: int = Field(default=100, ge=0)
    """Shorter documents are dropped as "short"."""
    minimum_letter_share: float = Field(default=0.6, ge=0, le=1)
    """Documents with a smaller share of letters among their non-space characters are dropped as "not prose"."""
    rules: tuple[Literal["gopher_quality", "gopher_repetition"], ...] = ()
    """Sets of rules that a document must keep, with the thresholds of their papers (``quality.py``); each rule that is
    broken is a reason of its own."""
    drop_duplicates: bool = True
    """Of documents with equal text only the first stays; the others are dropped as "duplicate"."""
    drop_near_duplicates: bool = False
    """Of documents that share most of their 5-word sequences only the first stays (MinHash); "near duplicate"."""
    evaluation_paths: tuple[str, ...] = ()
    """Files, folders or globs of evaluation sets (.tsv, .jsonl, .json, text). Documents that hold 13 words of one of
    their texts in a row, or all of a shorter text, are dropped as "holds evaluation text"."""
    drop_repeated_paragraphs: bool = False
    """Of equal paragraphs in the whole corpus (licences, standard phrases) only the first stays."""
    drop_repeated_lines: int = Field(default=0, ge=0)
    """Of equal lines of at least so many characters in the whole corpus (menus, footers) only the first stays; 0 for
    all lines. In place of ``drop_repeated_paragraphs``."""

    @model_validator(mode="after")
    def _one_size(self) -> "CleanConfig":
        if self.drop_repeated_lines and self.drop_repeated_paragraphs:
            raise ValueError("set drop_repeated_lines or drop_repeated_paragraphs, not both")
        return self


def clean(
    documents: Iterable[Document],
    config: CleanConfig,
    dropped: Counter[str],
    overlap: Overlap | None = None,
    changed: Counter[str] | None = None,
    lost: Counter[str] | None = None,
) -> Iterator[Document]:
    """The documents that stay, normalised; ``dropped`` counts the others by reason and ``lost`` their characters,
    ``changed`` what was done to some of those that stay."""
    for document in documents:
        repaired = repair(document.text) if config.repair_unicode else document.text
        tidy = normalise(repaired, config.unicode_form, kept=config.white_space == "kept")
        text, reason = tidy.text, _reason(tidy, config)
        if reason is None and config.languages and (found := language(text)) not in config.languages:
            reason = f"language: {found}"
        if reason is None and overlap is not None and overlap.meets(text):
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
    """``text`` with what a wrong decoding made of it undone, and nothing else changed."""
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)


class CleanText(NamedTuple):
    """A text in order, and what was counted on the way."""

    text: str
    letters: int
    visible: int
    """Characters that are not white space."""

    @property
    def letter_share(self) -> float:
        """Letters of any script among the visible characters."""
        return self.letters / max(1, self.visible)


def normalise(text: str, form: Literal["NFC", "NFKC"], *, kept: bool = False) -> CleanText:
    """Normal form, no control characters, single spaces, paragraphs parted by one blank line; or white space ``kept``
    as it is, but for blank lines at the ends."""
    normal = text if text.isascii() else unicodedata.normalize(form, text)
    data = np.frombuffer(normal.encode(), np.uint8)
    found, letters, visible = normalize_whitespace(data, cleaning_kinds())
    return CleanText(_with_white_space(normal) if kept else found.tobytes().decode(), letters, visible)


def _with_white_space(text: str) -> str:
    return BLANK_LINES_BEFORE.sub("", REMOVED.sub("", FORM_FEED.sub(" ", LINE_END.sub("\n", text)))).rstrip()


def normal_text(text: str, rules: CleanConfig) -> str:
    """``text`` as a document with that text is kept, to compare other texts with documents."""
    return normalise(repair(text) if rules.repair_unicode else text, rules.unicode_form).text


def fingerprint(text: str) -> bytes:
    """16 bytes that equal texts share: what duplicates and held-out documents are told by."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _reason(tidy: CleanText, config: CleanConfig) -> str | None:
    if len(tidy.text) < config.minimum_characters:
        return "short"
    if tidy.letter_share < config.minimum_letter_share:
        return "not prose"
    if config.rules:
        broken = broken_rule(tidy.text, [rule for name in config.rules for rule in RULES[name]])
        return f"gopher: {broken}" if broken else None
    return None
