"""Configuration of a source of text."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from sesame.configs import Section
from sesame.configs.errors import CorpusError


class SourceConfig(Section):
    """What to read."""

    kind: Literal["python_documentation", "text", "lines", "json_lines", "parquet", "arrow", "warc", "mediawiki"]
    """Row of the table of sources."""
    paths: tuple[str, ...] = ()
    """Files, folders or globs, local or in a store (s3://, gs://), read in this order. The files of a folder or a glob
    are sorted. A folder includes linked folders and excludes hidden files. A path that exists is never read as a glob.
    Empty for python_documentation."""
    text_field: str = "text"
    """Key of a JSON line, or column of a Parquet or Arrow file, that holds the text."""
    blank_line_separates: bool = True
    """In plain text files a blank line separates documents; otherwise each file is one document."""
    damaged: Literal["stop", "count"] = "stop"
    """For a line, row or page that cannot be decoded or parsed, or a truncated or damaged file: stop with an error that
    names it, or drop it and count it by reason."""
    maximum_document_megabytes: float = Field(default=100.0, gt=0)
    """A longer line or document is dropped and counted, and never held in memory."""
    limit_megabytes: float = Field(default=0.0, ge=0)
    """Stop after this much text, in the fixed order of reading; 0 for no limit."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How many times its train documents are used, each time with new pairs and masks: 2.5 is twice, and half of them
    once more; 0.3 is three tenths of them. The hash of their text decides which ones."""

    def handle_damaged(self, reason: str, message: Callable[[], str], dropped: Counter[str]) -> None:
        """Stop at damaged content or count it in ``dropped``, as ``damaged`` says.

        Args:
            message: called only to stop, because it may have to read the file again.

        Raises:
            CorpusError: with that message.
        """
        if self.damaged == "stop":
            raise CorpusError(message()) from None
        dropped[reason] += 1

    @property
    def maximum_bytes(self) -> int:
        return int(self.maximum_document_megabytes * 1e6)
