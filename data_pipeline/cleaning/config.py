"""Configuration of cleaning."""

from typing import Literal

from pydantic import Field, model_validator

from sesame.configs import Section


class CleanConfig(Section):
    """How documents are normalized, filtered and deduplicated."""

    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    """Unicode normal form of the text."""
    white_space: Literal["auto", "single", "kept"] = "auto"
    """White space within a text: "single" spaces and at most one blank line, or "kept" with indentation and all line
    breaks. "auto" keeps it if it reaches the model: with segment.kind "contiguous" and an existing tokenizer that
    preserves line breaks (GPT-2's)."""
    repair_unicode: bool = False
    """Undo text that was decoded as the wrong encoding (\u00c3\u00a9 for \u00e9), by ftfy (Speer 2019); counted as
    "repaired"."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes, as ["en", "zh"]: documents of other languages are dropped as "language: xx"; empty for all.
    Detected by py3langid (Lui and Baldwin 2012), which the extra ``language`` installs."""
    minimum_characters: int = Field(default=100, ge=0)
    """Shorter documents are dropped as "short"."""
    minimum_letter_share: float = Field(default=0.6, ge=0, le=1)
    """Documents with a smaller share of letters among their non-space characters are dropped as "not prose"."""
    rules: tuple[Literal["gopher_quality", "gopher_repetition"], ...] = ()
    """Sets of quality rules, with the thresholds of their papers (``quality.py``); dropped documents are counted by
    rule."""
    drop_duplicates: bool = True
    """Of documents with equal text, keep only the first; the others are dropped as "duplicate"."""
    drop_near_duplicates: bool = False
    """Of documents that share most of their 5-word sequences, keep only the first (MinHash); "near duplicate"."""
    evaluation_paths: tuple[str, ...] = ()
    """Files, folders or globs of evaluation sets (.tsv, .jsonl, .json, text). Documents that contain 13 consecutive
    words of one of their texts, or all of a shorter text, are dropped as "holds evaluation text"."""
    drop_repeated_paragraphs: bool = False
    """Of equal paragraphs in the whole corpus (licences, boilerplate), keep only the first."""
    drop_repeated_lines: int = Field(default=0, ge=0)
    """Of equal lines of at least this many characters in the whole corpus (menus, footers), keep only the first; 0
    keeps all lines. Not together with ``drop_repeated_paragraphs``."""

    @model_validator(mode="after")
    def _one_size(self) -> "CleanConfig":
        if self.drop_repeated_lines and self.drop_repeated_paragraphs:
            raise ValueError("set drop_repeated_lines or drop_repeated_paragraphs, not both")
        return self
