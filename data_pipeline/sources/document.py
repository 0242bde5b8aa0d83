"""The one value that flows through sources and cleaning."""

from typing import NamedTuple


class Document(NamedTuple):
    """A text and where it came from."""

    text: str
    source: str
    """File and place in it, for messages and for tracing an example back to its text."""
