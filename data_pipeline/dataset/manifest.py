"""``manifest.json``: what was made, from what, by which recipe, with a checksum for every file and for itself."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import TypedDict

import configs
from configs import Section
from configs.errors import ConfigError, DatasetError
from data_pipeline.examples.corrupt import CorruptConfig
from data_pipeline.examples.segment import SegmentConfig

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
NEEDED = {
    "next_sentence": ("tokens", "first_segment_length", "pair_labels", "document", "second_document"),
    "sentence_order": ("tokens", "first_segment_length", "pair_labels"),
}
"""Columns that a dataset has, by the kind of its segments; the others have tokens at least."""
SECTIONS: dict[str, type[Section]] = {"segment": SegmentConfig, "corrupt": CorruptConfig}
"""Of a recipe: what readers of a dataset look at."""


class Shard(Section):
    """One file of a split."""

    file: str
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class SplitRecord(Section):
    """One split: its counts and its files in order."""

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
    """One unit that was read: a file, a part of one, or a package."""

    name: str
    bytes: int
    """On disk."""
    sha256: str
    """In a store: its hash."""
    source: int
    """Number of the source."""
    kind: str
    weight: float
    documents_kept: Annotated[int, Field(ge=0)]
    """What is left of it, each document once."""
    characters_kept: Annotated[int, Field(ge=0)]


class Manifest(Section):
    """What ``manifest.json`` holds."""

    format_version: int
    code_version: str
    seed: int
    columns: tuple[str, ...]
    recipe: dict[str, Any]
    """The resolved corpus configuration, without what has no influence on the bytes."""
    tokenizer: TokenizerRecord
    splits: dict[str, SplitRecord]
    documents_sha256: str
    """Of ``validation_documents.jsonl``."""
    places_sha256: str
    """Of ``train_documents.arrow``."""
    documents: dict[str, Annotated[int, Field(ge=0, le=2**62)]]
    """Documents read, kept, held out, and dropped by reason, each once however long; and what was done to them, such as
    repairs."""
    sources: tuple[SourceRow, ...]
    """Units read."""
    text: dict[str, int] = Field(default_factory=dict)
    """Characters read and those dropped by reason; tokens of the train documents, of sentences longer than a row, in no
    row, and unknown."""
    lengths: dict[str, int]
    """Histogram: sequences of the train split by number of tokens, in bins of 16."""
    masking: dict[str, float]
    """Observed shares over the train split: predicted of the text tokens; [MASK], kept and random of the predicted. Of
    hidden spans: hidden of the text tokens, and the mean length of a span in tokens."""
    pair_share: float | None = None
    """Share of train pairs with label 1."""
    unigram_entropy: float | None = None
    """Nats: the loss of a model that only counts the train labels, on those labels."""
    unigram_cross_entropy_validation: float | None = None
    """Nats: the same counts used to predict the validation labels; the line that a loss curve shows."""
    manifest_sha256: str = Field(default="")
    """Of this file without this entry."""

    @model_validator(mode="after")
    def _readers_find_what_they_need(self) -> "Manifest":
        for found, needed, where in (
            (self.tokenizer.special, ("pad", "unk", "cls", "sep"), "tokenizer.special"),
            (self.documents, ("read", "kept for training", "held out"), "documents"),
            (self.columns, NEEDED.get(self.recipe.get("segment", {}).get("kind"), ("tokens",)), "columns"),
            (self.splits, ("train", "validation"), "splits"),
        ):
            if missing := [name for name in needed if name not in found]:
                raise ValueError(f"{where} lacks {', '.join(missing)}")
        masks = {"mask_positions", "mask_labels"} & set(self.columns)
        if len(masks) == 1 or (masks and "mask" not in self.tokenizer.special):
            raise ValueError("columns have one of mask_positions and mask_labels, or there is no mask token")
        for name, split in self.splits.items():
            if split.rows != sum(shard.rows for shard in split.shards):
                raise ValueError(f"splits.{name} has {split.rows} rows, but its shards have others")
        return self

    @property
    def fates(self) -> dict[str, int]:
        """Documents by what became of them, each once: of ``documents`` what adds up to those that were read."""
        kept = ("kept for training", "held out")
        return {fate: n for fate, n in self.documents.items() if fate in kept or fate.startswith("dropped: ")}


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of the dataset folder ``path``.

    Raises:
        DatasetError: there is none, or it is not byte for byte what was written.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise DatasetError(f"{path}: holds no {MANIFEST}, so it is no dataset; make one with `sesame prepare`")
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
    """The recipe with its sections checked, and with what was usual before a setting was there."""
    if not isinstance(recipe, dict):
        raise ConfigError(f"{origin}: 'recipe' is no table")
    sections = {}
    for name, kind in SECTIONS.items():
        values = recipe.get(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: recipe.{name} is no table")
        known = {key: value for key, value in values.items() if key in kind.model_fields}
        sections[name] = {**values, **configs.dump(configs.parse(known, kind, f"{origin}: recipe.{name}"))}
    return {**recipe, **sections}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` with its own checksum."""
    values = configs.dump(manifest)
    del values["manifest_sha256"]
    values["manifest_sha256"] = _digest(values)
    (folder / MANIFEST).write_bytes(_rendered(values))


def _rendered(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
