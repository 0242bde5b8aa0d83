"""``manifest.json``: sources, recipe, statistics and checksums of a dataset."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError, DatasetError
from sesame.configs.storage import digest_of, write_bytes
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.examples.segment import SegmentConfig

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
REQUIRED_COLUMNS = {
    "next_sentence": ("tokens", "first_segment_length", "pair_labels", "document", "second_document"),
    "sentence_order": ("tokens", "first_segment_length", "pair_labels"),
}
"""Columns that a dataset must have, by ``segment.kind``; with the other kinds only tokens."""
SECTIONS: dict[str, type[Section]] = {"segment": SegmentConfig, "corrupt": CorruptConfig}
"""Sections of the recipe that readers of a dataset use."""


class Shard(Section):
    """One file of a split."""

    file: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class SplitRecord(Section):
    """Counts and files of one split, in order."""

    rows: int = Field(ge=0)
    tokens: int = Field(ge=0)
    predictions: int = Field(ge=0)
    shards: tuple[Shard, ...]


class TokenizerRecord(Section):
    """The tokenizer that made the ids."""

    sha256: str
    vocabulary_size: int = Field(gt=0, le=2**24)
    special: dict[str, int]


class SourceRow(TypedDict):
    """One input unit: a file, a part of a file, or a package."""

    name: str
    bytes: int
    """On disk."""
    sha256: str
    """For an object store: the hash that the store reports."""
    source: int
    """Index of the source."""
    kind: str
    weight: float
    documents_kept: Annotated[int, Field(ge=0)]
    """Documents that are used, each counted once."""
    characters_kept: Annotated[int, Field(ge=0)]


class Manifest(Section):
    """Content of ``manifest.json``."""

    format_version: int
    code_version: str
    seed: int
    columns: tuple[str, ...]
    recipe: dict[str, Any]
    """The resolved corpus configuration, without the settings that do not affect the bytes."""
    tokenizer: TokenizerRecord
    splits: dict[str, SplitRecord]
    documents_sha256: str
    """Of ``validation_documents.jsonl``."""
    places_sha256: str
    """Of ``train_documents.arrow``."""
    documents: dict[str, Annotated[int, Field(ge=0, le=2**62)]]
    """Documents read, kept for training, used for validation, and dropped by reason, each counted once; and how many
    were changed, for instance repaired."""
    sources: tuple[SourceRow, ...]
    """Input units."""
    text: dict[str, int] = Field(default_factory=dict)
    """Characters read, and dropped by reason; tokens of the train documents: all, in sentences longer than a row, in no
    row, and unknown."""
    lengths: dict[str, int]
    """Histogram: sequences of the train split by number of tokens, in bins of 16."""
    masking: dict[str, float]
    """Observed on the train split: predicted share of the text tokens; shares of [MASK], unchanged and random tokens
    among the predicted. For masked spans: masked share of the text tokens, and mean span length in tokens."""
    pair_share: float | None = None
    """Share of train pairs with label 1."""
    unigram_entropy: float | None = None
    """Unigram baseline on the train labels, in nats."""
    unigram_cross_entropy_validation: float | None = None
    """Unigram baseline on the validation labels, in nats, with the counts of the train labels; drawn in loss curves."""
    manifest_sha256: str = Field(default="")
    """Checksum of this file without this entry."""

    @model_validator(mode="after")
    def _has_required_entries(self) -> "Manifest":
        for present, required, where in (
            (self.tokenizer.special, ("pad", "unk", "cls", "sep"), "tokenizer.special"),
            (self.documents, ("read", "kept for training", "held out"), "documents"),
            (self.columns, REQUIRED_COLUMNS.get(self.recipe.get("segment", {}).get("kind"), ("tokens",)), "columns"),
            (self.splits, ("train", "validation"), "splits"),
        ):
            if missing := [name for name in required if name not in present]:
                raise ValueError(f"{where} lacks {', '.join(missing)}")
        masks = {"mask_positions", "mask_labels"} & set(self.columns)
        if len(masks) == 1 or (masks and "mask" not in self.tokenizer.special):
            raise ValueError("columns have one of mask_positions and mask_labels, or there is no mask token")
        for name, split in self.splits.items():
            if split.rows != sum(shard.rows for shard in split.shards):
                raise ValueError(f"splits.{name} has {split.rows} rows, but its shards have another number")
        return self

    @property
    def documents_by_outcome(self) -> dict[str, int]:
        """The entries of ``documents`` that add up to the documents read: used for a split, or dropped."""
        kept = ("kept for training", "held out")
        return {name: n for name, n in self.documents.items() if name in kept or name.startswith("dropped: ")}


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the dataset folder ``path``.

    Raises:
        DatasetError: there is none, or it differs from what was written.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise DatasetError(f"{path}: holds no {MANIFEST}, so it is not a dataset; make one with `sesame prepare`")
    written = file.read_bytes()
    try:
        values = json.loads(written)
        stated = values.pop("manifest_sha256", "")
        intact = _digest(values) == stated and _rendered({**values, "manifest_sha256": stated}) == written
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise DatasetError(f"{file}: differs from its own checksum; prepare the dataset again or copy the file anew")
    if values.get("format_version") != FORMAT_VERSION:
        found = values.get("format_version")
        raise DatasetError(f"{file}: has format {found}, but this version reads {FORMAT_VERSION}; prepare it again")
    try:
        recipe = _complete(values.get("recipe"), str(file))
        return configs.parse({**values, "recipe": recipe, "manifest_sha256": stated}, Manifest, str(file))
    except ConfigError as error:
        raise DatasetError(f"{error}; prepare the dataset again with this version") from None


def _complete(recipe: Any, origin: str) -> dict[str, Any]:
    """Return the recipe with its sections checked; settings that are newer than the dataset get their defaults."""
    if not isinstance(recipe, dict):
        raise ConfigError(f"{origin}: 'recipe' is not a table")
    sections = {}
    for name, kind in SECTIONS.items():
        values = recipe.get(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: recipe.{name} is not a table")
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        sections[name] = {**values, **configs.dump(configs.parse(known, kind, f"{origin}: recipe.{name}"))}
    return {**recipe, **sections}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` with its own checksum."""
    values = configs.dump(manifest)
    del values["manifest_sha256"]
    values["manifest_sha256"] = _digest(values)
    write_bytes(folder / MANIFEST, _rendered(values), durable=False)


def _rendered(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return digest_of(text.encode())
