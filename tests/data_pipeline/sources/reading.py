"""The documents of small files, for the tests of sources."""

from collections import Counter
from pathlib import Path

from sesame.configs import parse
from sesame.data_pipeline.sources import SourceConfig, read, units

LINES = '{"text": "first"}\n\n{"text": "second \\u00e9", "more": 1}\n'


def config(kind: str, *paths: Path | str, **more: object) -> SourceConfig:
    return parse({"kind": kind, "paths": [str(path) for path in paths], **more}, SourceConfig, "a.toml")


def documents(source: SourceConfig, dropped: Counter[str] | None = None) -> list[tuple[str, str]]:
    counter = Counter() if dropped is None else dropped
    return [(d.text, d.source.rpartition("/")[2]) for unit in units(source) for d in read(unit, source, counter)]
