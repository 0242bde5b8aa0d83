"""The inputs of a run, and whether an existing output folder or an interrupted run has the same recipe and inputs."""

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.cleaning import overlap
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset import provenance, shards
from sesame.data_pipeline.sources import Unit, units
from sesame.data_pipeline.sources.paths import matching
from sesame.data_pipeline.steps.tokenizer import given_digest


def list_units(config: CorpusConfig) -> list[Unit]:
    """Return the units of all sources, in their order.

    Where several sources read the same file, two columns of one table for instance, the names of their documents
    contain the number of the source.
    """
    listed = [unit._replace(source=number) for number, each in enumerate(config.source) for unit in units(each)]
    readers: dict[tuple[str, ...], set[int]] = {}
    for unit in listed:
        readers.setdefault(unit.paths, set()).add(unit.source)
    return [
        unit._replace(file=f"{unit.file} [source {unit.source}]") if len(readers[unit.paths]) > 1 else unit
        for unit in listed
    ]


def identity(config: CorpusConfig, inputs: list[Unit]) -> dict[str, Any]:
    """Return what must be equal for results of an interrupted run to be reused: recipe, inputs and code."""
    return {
        "recipe": config.recipe(),
        "inputs": [[unit.name, unit.bytes, *map(_modified, unit.paths)] for unit in inputs],
        "model": given_digest(config),
        "evaluation": [
            [*file, _modified(file.path)]
            for path in config.clean.evaluation_paths
            for file in matching(path, overlap.SETTING)
        ],
        "code": provenance.code_version(),
    }


def check_existing(config: CorpusConfig, inputs: list[Unit], output: Path, console: Console) -> None:
    """Check that ``output`` is the dataset of this configuration and input, and report it.

    Raises:
        DatasetError: it is anything else, which is not overwritten.
    """
    remedy = "choose another --output, or remove the folder to prepare it again"
    if not (output / "manifest.json").is_file():
        raise DatasetError(f"{output}: exists and is not a dataset; {remedy}")
    manifest = shards.open_dataset(output, verify=False).manifest
    if manifest.recipe != config.recipe():
        raise DatasetError(f"{output}: contains a dataset of another recipe; {remedy}")
    sources = [(source["name"], source["bytes"]) for source in manifest.sources]
    has_other_tokenizer = given_digest(config) not in (None, manifest.tokenizer.sha256)
    if has_other_tokenizer or sources != [(unit.name, unit.bytes) for unit in inputs]:
        raise DatasetError(f"{output}: contains a dataset of this recipe, but its input has changed since; {remedy}")
    console.print(f"{output}: is complete and of this recipe; nothing to do")


def _modified(path: str) -> int:
    """Return when a local file was last modified, in nanoseconds; 0 for a file in a store."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0
