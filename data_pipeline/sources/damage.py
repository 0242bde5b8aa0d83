"""Damaged files of records: what was read before the damage stays."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.streams import DAMAGED
from sesame.data_pipeline.sources.unit import Unit


def until_damaged(records: Iterable[Any], unit: Unit, config: SourceConfig, dropped: Counter[str]) -> Iterator[Any]:
    """Yield the records of a file up to where it is damaged, which is raised or counted as the configuration says."""
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except (*DAMAGED, ElementTree.ParseError) as error:
        message = (
            f"{unit.name}: breaks off after record {count} ({error}); copy it again, or set source.damaged = 'count'"
        )
        config.handle_damaged("file breaks off", lambda: message, dropped)
