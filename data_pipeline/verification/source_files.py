"""The source files of a dataset that are still what was read, with the configuration of their source."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError, DatasetError
from sesame.configs.storage import digest
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.python_documentation import packages
from sesame.data_pipeline.verification import PREPARE_AGAIN

MAXIMUM_HASHED_BYTES = 1 << 30
"""Source files are read to compare their digests up to this size in total."""
RANGE = re.compile(r"\[\d+:\d+\]$")
"""Suffix of the name of a unit that is a part of a file."""


def recipe_sections(dataset: Dataset, name: str, kind: type[Section]) -> list[dict[str, Any]]:
    """Return the tables of the recipe under ``name``, checked and with defaults.

    Raises:
        DatasetError: a value is not valid, which a manifest with the right checksum may still have.
    """
    value = dataset.manifest.recipe.get(name)
    sections = value if isinstance(value, list | tuple) and name == "source" else [value]
    checked = []
    for values in sections:
        if not isinstance(values, dict):
            raise DatasetError(f"{dataset.path}: recipe.{name} in the manifest is not a table; {PREPARE_AGAIN}")
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        try:
            checked.append({**values, **configs.dump(configs.parse(known, kind, f"recipe.{name}"))})
        except ConfigError as error:
            raise DatasetError(f"{dataset.path}: {error} in the manifest; {PREPARE_AGAIN}") from None
    return checked


def unchanged_sources(dataset: Dataset, names: set[str]) -> dict[str, Any]:
    """Return name -> configuration of its source, for those files or packages of ``names`` that did not change.

    The configuration of a package also has its ``files``.
    """
    configured = recipe_sections(dataset, "source", SourceConfig)
    installed = dict(packages()) if any(each["kind"] == "python_documentation" for each in configured) else {}
    unchanged: dict[str, Any] = {}
    remaining = MAXIMUM_HASHED_BYTES
    for row in dataset.manifest.sources:
        name = RANGE.sub("", row["name"])
        if name in unchanged or name not in names:
            continue
        remaining -= row["bytes"]
        files = installed.get(name, (name,))
        if not 0 <= row["source"] < len(configured):
            name = row["name"]
            raise DatasetError(f"{dataset.path}: {name} is from a source that is not in the recipe; {PREPARE_AGAIN}")
        if remaining >= 0 and _digest(files) == row["sha256"]:
            source = configured[row["source"]]
            unchanged[name] = {**source, "files": files} if name in installed else source
    return unchanged


def _digest(files: Sequence[str]) -> str | None:
    """SHA-256 of a file, or over the digests of several, as in the manifest; None if one cannot be read."""
    try:
        digests = [digest(Path(file)) for file in files]
    except OSError:
        return None
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
