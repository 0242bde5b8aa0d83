"""What is read: the configuration of a source, and the unit that one task reads of it."""

from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field

from configs import Section
from configs.errors import CorpusError
from data_pipeline.sources.files import Range


class SourceConfig(Section):
    """What to read."""

    kind: Literal["python_documentation", "text", "lines", "json_lines", "parquet", "arrow", "warc", "mediawiki"]
    """Row of the table of sources."""
    paths: tuple[str, ...] = ()
    """Files, folders (all files below but hidden ones, and those of linked folders) or globs, here or in a store (s3://,
    gs://), in the order in which they are read; what a folder or a glob gives is sorted. A name that is there is no
    glob. None for the documentation."""
    text_field: str = "text"
    """Key of a JSON line, or column of a Parquet or Arrow file, that holds the text."""
    blank_line_separates: bool = True
    """In plain text files a blank line parts documents; otherwise each file is one document."""
    damaged: Literal["stop", "count"] = "stop"
    """At a line, row or page that cannot be decoded or parsed, or a file that is cut short or damaged: stop and name
    it, or leave it out and count it among the reasons."""
    maximum_document_megabytes: float = Field(default=100.0, gt=0)
    """A longer line or document is left out, counted, and never held in memory."""
    limit_megabytes: float = Field(default=0.0, ge=0)
    """Stop after so much text, in the fixed order of reading; 0 for no limit."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often its train documents are gone through, each time with new pairs and masks: 2.5 is twice, and once more
    a half of them; 0.3 is three tenths of them. Which ones follows from the hash of their text."""

    def leave_out(self, reason: str, message: Callable[[], str], dropped: Counter[str]) -> None:
        """Count what is damaged, or stop there, as ``damaged`` says; ``message`` is called only then.

        Raises:
            CorpusError: with that message.
        """
        if self.damaged == "stop":
            raise CorpusError(message()) from None
        dropped[reason] += 1

    @property
    def maximum_bytes(self) -> int:
        return int(self.maximum_document_megabytes * 1e6)


class Unit(NamedTuple):
    """What one task reads."""

    kind: str
    name: str
    """File, with the place in it where there are several units."""
    paths: tuple[str, ...]
    """Absolute, because workers may run elsewhere."""
    bytes: int
    """Size of the files; of all of the file for a part of it."""
    part: Range = Range()
    """What of the file: stored bytes of a text, row groups or record batches of a table."""
    file: str = ""
    """The file as the user named it, where documents and messages say where they are from."""
    source: int = 0
    """Number of its source among those of the run."""
