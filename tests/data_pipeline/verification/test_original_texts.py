"""Which kinds of sources ``sesame verify`` can read again."""

from sesame.data_pipeline.sources import SOURCES
from sesame.data_pipeline.verification.original_texts import READERS

NOT_COMPARED = {
    "python_documentation": "read by package, beside the table",
    "warc": "its text is extracted by optional parsers",
    "mediawiki": "its text is what remains of the markup",
}
"""Kinds whose training documents are not compared with their rows, and why."""


def test_every_kind_is_read_again_or_has_a_reason_not_to_be() -> None:
    assert {*READERS, *NOT_COMPARED} == set(SOURCES)
    assert not READERS.keys() & NOT_COMPARED.keys()
