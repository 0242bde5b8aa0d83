"""The value that sources produce and cleaning transforms."""

from typing import NamedTuple


class Document(NamedTuple):
    """A text and where it came from."""

    text: str
    source: str
    """File and position in it, for messages and to trace an example back to its text."""
