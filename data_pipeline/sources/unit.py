"""The unit of work of a source: what one task reads."""

from typing import NamedTuple

from sesame.data_pipeline.sources.files import Range


class Unit(NamedTuple):
    """What one task reads."""

    kind: str
    name: str
    """File, with its range where the file has several units."""
    paths: tuple[str, ...]
    """Absolute, because workers may run in another folder."""
    bytes: int
    """Size of the whole files, also where the unit is only a part."""
    part: Range = Range()
    """Which part of the file: stored bytes of text; row groups or record batches of a table."""
    file: str = ""
    """The file as the user named it, for documents and messages."""
    source: int = 0
    """Index of the source in the configuration."""
