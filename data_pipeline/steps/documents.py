"""Sources -> cleaned documents, each used for training, for validation, or dropped."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import CorpusError
from sesame.configs.storage import named_errors
from sesame.data_pipeline.cleaning.clean import normal_text
from sesame.data_pipeline.cleaning.overlap import Overlap
from sesame.data_pipeline.cleaning.parts import OVERLAP, Part, Reading, read_unit, whole_documents, write_parts
from sesame.data_pipeline.cleaning.pieces import Features
from sesame.data_pipeline.cleaning.selection import Choice, Origin, Outcome, choose, counts
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset import provenance
from sesame.data_pipeline.dataset.manifest import SourceRow
from sesame.data_pipeline.sources import Unit
from sesame.data_pipeline.sources.document import Document
from sesame.data_pipeline.workers import Workers


class Documents(NamedTuple):
    """The cleaned documents of a corpus, in parts on disk."""

    parts: list[Part]
    choices: list[Choice]
    """For each part: the outcomes of its documents."""
    readings: list[Reading]
    """For each unit: its parts and its counts."""


def read_and_choose(
    config: CorpusConfig, inputs: Sequence[Unit], keep_white_space: bool, work: Path, workers: Workers
) -> Documents:
    """Read and clean all units, and choose among the documents of all of them.

    Raises:
        CorpusError: a source cannot be read, or no document is left to train on.
    """
    if config.clean.evaluation_paths:
        normalize = partial(normal_text, rules=config.clean)
        Overlap.of(config.clean.evaluation_paths, normalize).save(work / OVERLAP)
    rules = config.clean.model_copy(update={"white_space": "kept" if keep_white_space else "single"})
    jobs = [(number, unit, config.source[unit.source], rules, work) for number, unit in enumerate(inputs)]
    readings: list[Reading] = workers.map("read and clean", read_unit, jobs)
    parts = [part for reading in readings for part in reading.parts]
    owners = [unit for unit, reading in zip(inputs, readings, strict=True) for _ in reading.parts]
    documents = Documents(parts, _choose(config, parts, owners), readings)
    _require_training_documents(counts(readings, documents.choices), inputs)
    return documents


def write_validation_documents(path: Path, documents: Documents, work: Path) -> Documents:
    """Write the validation documents of all parts to ``path``, and as parts of their own.

    Together in few parts they can be partners of each other in pairs.
    """
    keeps = [choice.keep(Outcome.VALIDATION) for choice in documents.choices]
    paragraphs = [choice.paragraphs for choice in documents.choices]

    def written() -> Iterator[Document]:
        with named_errors(path), path.open("w", encoding="utf-8") as file:
            for document in whole_documents(documents.parts, keeps, paragraphs):
                file.write(json.dumps(document._asdict(), ensure_ascii=False) + "\n")
                yield document

    parts = write_parts(written(), "held out", work / "held-out", Features())
    choices = [Choice(np.full(part.pieces, Outcome.VALIDATION, np.int8), part.characters) for part in parts]
    return Documents(parts, choices, [])


def source_rows(
    config: CorpusConfig, inputs: Sequence[Unit], documents: Documents, workers: Workers
) -> tuple[SourceRow, ...]:
    """Return a manifest row for each unit: its source, its checksum, and how much of it is used."""
    files = list(dict.fromkeys(unit.paths for unit in inputs))
    checksums = workers.map("checksum the sources", provenance.checksum, [(paths,) for paths in files])
    sha256 = dict(zip(files, checksums, strict=True))
    rows: list[SourceRow] = []
    remaining = iter(documents.choices)
    for unit, reading in zip(inputs, documents.readings, strict=True):
        own = [(part, choice) for part, choice in zip(reading.parts, remaining, strict=False)]
        rows.append(
            {
                "name": unit.name,
                "bytes": unit.bytes,
                "sha256": sha256[unit.paths],
                "source": unit.source,
                "kind": unit.kind,
                "weight": config.source[unit.source].weight,
                "documents_kept": sum(int((part.begins & choice.stays).sum()) for part, choice in own),
                "characters_kept": sum(int(choice.characters[choice.stays].sum()) for _, choice in own),
            }
        )
    return tuple(rows)


def _choose(config: CorpusConfig, parts: Sequence[Part], owners: Sequence[Unit]) -> list[Choice]:
    origins = [
        Origin(number, each.limit_megabytes * 1e6 or float("inf"), each.weight)
        for number, each in enumerate(config.source)
    ]
    return choose(
        parts,
        [origins[unit.source] for unit in owners],
        drop_duplicates=config.clean.drop_duplicates,
        drop_near_duplicates=config.clean.drop_near_duplicates,
        drop_paragraphs=config.clean.drop_repeated_paragraphs or config.clean.drop_repeated_lines > 0,
        validation_fraction=config.shards.validation_fraction,
    )


def _require_training_documents(documents: dict[str, int], inputs: Sequence[Unit]) -> None:
    if not documents["kept for training"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in documents.items())
        more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
        raise CorpusError(
            f"{inputs[0].name}{more}: contains no document to train on ({reasons}); check source.paths and [clean]"
        )
