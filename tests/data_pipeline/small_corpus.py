"""A corpus in six files, the configuration of its dataset, and what is in that."""

from pathlib import Path
from typing import Any

from sesame.configs import parse
from sesame.data_pipeline.prepare import CorpusConfig


def config(output: Path, paths: list[Path], workers: int = 2, **sections: dict[str, Any]) -> CorpusConfig:
    values: dict[str, Any] = {
        "output": str(output),
        "seed": 3,
        "source": {"kind": "json_lines", "paths": [str(path) for path in paths]},
        "tokenizer": {"vocabulary_size": 300},
        "segment": {"kind": "next_sentence", "sequence_length": 48},
        "shards": {"rows_per_shard": 300, "validation_fraction": 0.1},
        "workers": {"count": workers},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values, CorpusConfig, "the test's corpus")


def write_parts(corpus: Path, folder: Path) -> list[Path]:
    """Write a corpus as six files, so that there are several parts to work on at once."""
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    paths = [folder / f"part-{number}.jsonl" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_text("".join(lines[number::6]), encoding="utf-8")
    return paths


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
