"""A small corpus configuration with a given tokenizer."""

from pathlib import Path

from sesame.configs import parse
from sesame.data_pipeline.config import CorpusConfig


def config(output: Path, corpus: Path, model: Path, segment: str, kind: str) -> CorpusConfig:
    values = {
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(corpus)], "limit_megabytes": 0.05},
        "clean": {"minimum_letter_share": 0.2},
        "tokenizer": {"model": str(model)},
        "segment": {"kind": segment, "sequence_length": 64},
        "corrupt": {"kind": kind},
        "workers": {"count": 1},
    }
    return parse(values, CorpusConfig, "the test's corpus")
