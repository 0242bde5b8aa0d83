"""Text -> dataset, top to bottom: read and clean, choose, train the tokenizer, make examples, shuffle into shards.

The work is cut into parts by the input alone, every part draws from a generator seeded with its own number, and parts
are put together in order. So the bytes do not depend on the number of workers or on who finishes first.
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial as bound
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from configs.errors import ConfigError, CorpusError, DatasetError, SesameError
from data_pipeline.cleaning import language, overlap
from data_pipeline.cleaning.clean import normal_text
from data_pipeline.cleaning.parts import (
    OVERLAP,
    Part,
    Reading,
    read_unit,
    whole_documents,
    write_parts,
)
from data_pipeline.cleaning.pieces import PARAGRAPH_END, Features
from data_pipeline.cleaning.selection import Choice, Origin, Outcome, choose, counts
from data_pipeline.config import CorpusConfig
from data_pipeline.dataset import provenance, shards
from data_pipeline.dataset.build import Group, Recipe, Rows, gather_shard, make_examples
from data_pipeline.dataset.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Shard,
    SourceRow,
    SplitRecord,
    TokenizerRecord,
    digest,
    write_manifest,
)
from data_pipeline.dataset.statistics import Counted, summarise, total
from data_pipeline.dataset.text_warnings import count_characters, warnings
from data_pipeline.examples.balance import groups, orders, partners
from data_pipeline.examples.sentences import split as split_sentences
from data_pipeline.examples.spans import special_ids
from data_pipeline.inspection.summary import summary
from data_pipeline.ledger import Ledger, close_folder, open_folder
from data_pipeline.ragged import boundaries
from data_pipeline.random_streams import generator
from data_pipeline.sources import Unit, units
from data_pipeline.sources.document import Document
from data_pipeline.sources.paths import matching
from data_pipeline.tokenizers.given_model import given_model
from data_pipeline.tokenizers.sentencepiece_training import train
from data_pipeline.tokenizers.tokenizer import Tokenizer
from data_pipeline.workers import Workers

__all__ = ["CorpusConfig", "prepare"]

RESULTS = (Part, Reading, Rows, Counted, Shard)
"""What the workers' jobs give back."""
WORK = "work"
"""Folder of what is needed only on the way, inside that of the dataset to be."""
SAMPLED_CHARACTERS = 10_000
"""Most of a paragraph that the tokenizer's sample takes or leaves at once: a line may be a whole book."""


def prepare(config: CorpusConfig, output: Path | None = None) -> Path:
    """Make the dataset ``output``; written aside and renamed, so that what can be seen is complete.

    An interrupted run leaves ``OUTPUT.partial``; the same command goes on from what is finished there.

    Args:
        output: folder of the dataset; None: ``config.output``.

    Raises:
        SesameError: the corpus or the configuration is at fault; nothing is left behind.
    """
    output = output or config.output
    console = Console(highlight=False)
    _check_given_tokenizer(config)
    if config.clean.languages:
        language.check(config.clean.languages)
    inputs = _inputs(config)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        return _existing(config, inputs, output, console)
    partial = output.with_name(output.name + ".partial")
    lock = open_folder(partial, _identity(config, inputs))
    begin = time.perf_counter()
    try:
        with Workers(config.workers, console, Ledger(partial.resolve() / WORK / "ledger", RESULTS)) as workers:
            manifest = _prepare(config, inputs, partial.resolve(), workers)
    except SesameError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    close_folder(partial, lock, {MANIFEST, *shards.open_dataset(partial, verify=False).files()})
    partial.rename(output)
    console.print(summary(manifest, time.perf_counter() - begin))
    for warning in warnings(manifest):
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if lost := losses(config, Tokenizer.load(output / shards.TOKENIZER)):
        console.print(f"not kept of the text: {'; '.join(lost)}", soft_wrap=True)
    return output


def _inputs(config: CorpusConfig) -> list[Unit]:
    """The units of all sources. What several sources read, two fields of one file for instance, are different
    documents: their places name the source, too."""
    found = [unit._replace(source=number) for number, each in enumerate(config.source) for unit in units(each)]
    readers: dict[tuple[str, ...], set[int]] = {}
    for unit in found:
        readers.setdefault(unit.paths, set()).add(unit.source)
    return [
        unit._replace(file=f"{unit.file} [source {unit.source}]") if len(readers[unit.paths]) > 1 else unit
        for unit in found
    ]


def _prepare(config: CorpusConfig, inputs: Sequence[Unit], folder: Path, workers: Workers) -> Manifest:
    work = folder / WORK
    parts, choices, readings = _read_and_choose(config, inputs, work, workers)
    model = _tokenizer(config, parts, choices, workers)
    model_path = folder / shards.TOKENIZER
    model_path.write_bytes(model)
    held_out = _write_held_out(folder / shards.DOCUMENTS, parts, choices, work)
    provenance.write_places(folder / shards.PLACES, parts, choices)
    recipe = Recipe(config.seed, config.segment, config.corrupt, model_path, digest(model_path))
    pairs = config.segment.kind == "next_sentence"
    jobs = [
        *_groups("train", Outcome.TRAIN, parts, choices, pairs=pairs),
        *_groups("validation", Outcome.VALIDATION, *held_out, pairs=pairs),
    ]
    by_split, text = _make_examples(jobs, recipe, work, workers)
    vocabulary = Tokenizer.from_bytes(model, "the tokenizer model")
    splits, counted = _write_shards(config, folder, work, by_split, vocabulary, workers)
    columns = by_split["train"][0].columns
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        code_version=provenance.code_version(),
        seed=config.seed,
        columns=columns,
        recipe=config.recipe(),
        tokenizer=_tokenizer_record(recipe.tokenizer_sha256, vocabulary),
        splits=splits,
        documents_sha256=digest(folder / shards.DOCUMENTS),
        places_sha256=digest(folder / shards.PLACES),
        documents=counts(readings, choices),
        text=count_characters(readings, choices) | text,
        sources=_sources(config, inputs, readings, choices, workers),
        **summarise(counted["train"], counted["validation"], columns)._asdict(),
    )
    write_manifest(folder, manifest)
    return manifest


def _read_and_choose(
    config: CorpusConfig, inputs: Sequence[Unit], work: Path, workers: Workers
) -> tuple[list[Part], list[Choice], list[Reading]]:
    """The cleaned documents, which of them stay, and what came of each unit."""
    if config.clean.evaluation_paths:
        form = bound(normal_text, rules=config.clean)
        overlap.Overlap.of(config.clean.evaluation_paths, form).save(work / OVERLAP)
    rules = config.clean.model_copy(update={"white_space": "kept" if _keeps_white_space(config) else "single"})
    numbered = [(number, unit, config.source[unit.source], rules, work) for number, unit in enumerate(inputs)]
    readings: list[Reading] = workers.map("read and clean", read_unit, numbered)
    parts = [part for reading in readings for part in reading.parts]
    owners = [unit for unit, reading in zip(inputs, readings, strict=True) for _ in reading.parts]
    choices = _choose(config, parts, owners)
    _refuse_nothing(counts(readings, choices), inputs)
    return parts, choices, readings


def _make_examples(
    jobs: Sequence[Group], recipe: Recipe, work: Path, workers: Workers
) -> tuple[dict[str, list[Rows]], Counter[str]]:
    """(the examples of each split, group by group, without the groups that gave none; what became of the text)."""
    rows: list[Rows] = workers.map("make examples", make_examples, [(group, recipe, work) for group in jobs])
    by_split = {
        split: [found for job, found in zip(jobs, rows, strict=True) if job.split == split and found.count]
        for split in shards.SPLITS
    }
    if not by_split["train"]:
        raise CorpusError("the corpus gives not one example; give more text or a shorter segment.sequence_length")
    text = Counter[str]()
    for found in (row.text for job, row in zip(jobs, rows, strict=True) if job.split == "train" and row.text):
        text.update(found)
    return by_split, text


def _identity(config: CorpusConfig, inputs: Sequence[Unit]) -> dict[str, Any]:
    """What finished work may be used for again: the same recipe, input and code."""
    return {
        "recipe": config.recipe(),
        "inputs": [[unit.name, unit.bytes, *map(_changed, unit.paths)] for unit in inputs],
        "model": _given_digest(config),
        "evaluation": [
            [*file, _changed(file.path)]
            for path in config.clean.evaluation_paths
            for file in matching(path, overlap.SETTING)
        ],
        "code": provenance.code_version(),
    }


def _changed(path: str) -> int:
    """When a local file was last written, in nanoseconds; 0 for what lies in a store."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


def _check_given_tokenizer(config: CorpusConfig) -> None:
    """Refuse a given tokenizer that is broken or does not fit the recipe, before anything is read."""
    path = config.tokenizer.model
    if path is None:
        return
    given = Tokenizer.from_bytes(given_model(config.tokenizer), path)
    if given.special.mask is None and config.corrupt.kind not in ("nothing", "masked_spans"):
        raise ConfigError(
            f"{path}: has no mask token, but corrupt.kind is '{config.corrupt.kind}'; set corrupt.kind to 'nothing', "
            "or give a tokenizer that has one"
        )


def _keeps_white_space(config: CorpusConfig) -> bool:
    """Whether documents keep indentation and all their line breaks."""
    if config.clean.white_space != "auto" or config.tokenizer.model is None:
        return config.clean.white_space == "kept"
    given = Tokenizer.from_bytes(given_model(config.tokenizer), config.tokenizer.model)
    return config.segment.kind == "contiguous" and given.keeps_line_breaks


def losses(config: CorpusConfig, vocabulary: Tokenizer) -> list[str]:
    """What of the documents cannot be read from the rows."""
    if vocabulary.keeps_line_breaks and not _keeps_white_space(config):
        return ["indentation and repeated line breaks (clean.white_space)", *vocabulary.losses]
    return vocabulary.losses


def _given_digest(config: CorpusConfig) -> str | None:
    """SHA-256 of the given tokenizer as the dataset keeps it; None where one is trained."""
    if config.tokenizer.model is None:
        return None
    return hashlib.sha256(given_model(config.tokenizer)).hexdigest()


def _tokenizer_record(sha256: str, vocabulary: Tokenizer) -> TokenizerRecord:
    return TokenizerRecord(sha256=sha256, vocabulary_size=len(vocabulary), special=special_ids(vocabulary))


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


def _refuse_nothing(documents: dict[str, int], inputs: Sequence[Unit]) -> None:
    if not documents["kept for training"]:
        found = ", ".join(f"{count} {reason}" for reason, count in documents.items())
        more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
        raise CorpusError(
            f"{inputs[0].name}{more}: holds no document to train on ({found}); check source.paths and [clean]"
        )


def _tokenizer(config: CorpusConfig, parts: Sequence[Part], choices: Sequence[Choice], workers: Workers) -> bytes:
    """The bytes of the given model, or of one trained on an even sample of the documents that are trained on."""
    if config.tokenizer.model is not None:
        return given_model(config.tokenizer)
    size = sum(int(choice.characters[choice.keep(Outcome.TRAIN)].sum()) for choice in choices)
    share = min(1.0, config.tokenizer.sample_megabytes * 1e6 / max(1, size))
    job = bound(train, _sample(parts, choices, share, config.seed), config.tokenizer)
    return workers.once("train the tokenizer", job)


def _sample(parts: Sequence[Part], choices: Sequence[Choice], share: float, seed: int) -> Iterator[str]:
    """Sentences of a ``share`` of the paragraphs, of long ones of a share of their stretches."""
    for number, (part, choice) in enumerate(zip(parts, choices, strict=True)):
        draw = generator(seed, "tokenizer sample", number)
        for document in part.read(choice.keep(Outcome.TRAIN), choice.paragraphs):
            for paragraph in document.text.split(PARAGRAPH_END):
                for start in range(0, len(paragraph), SAMPLED_CHARACTERS):
                    if draw.random() < share:
                        yield from split_sentences(paragraph[start : start + SAMPLED_CHARACTERS])


def _write_held_out(
    path: Path, parts: Sequence[Part], choices: Sequence[Choice], work: Path
) -> tuple[list[Part], list[Choice]]:
    """Write the held-out documents of all parts to ``path`` and as parts of their own, so that they meet in pairs."""

    def documents() -> Iterator[Document]:
        keeps, paragraphs = zip(
            *((choice.keep(Outcome.VALIDATION), choice.paragraphs) for choice in choices), strict=True
        )
        with path.open("w", encoding="utf-8") as file:
            for document in whole_documents(parts, keeps, paragraphs):
                file.write(json.dumps(document._asdict(), ensure_ascii=False) + "\n")
                yield document

    held_out = write_parts(documents(), "held out", work / "held-out", Features())
    return held_out, [Choice(np.full(part.pieces, Outcome.VALIDATION, np.int8), part.characters) for part in held_out]


def _groups(
    split: str, fate: Outcome, parts: Sequence[Part], choices: Sequence[Choice], *, pairs: bool
) -> Iterator[Group]:
    """The documents of one fate in groups for the workers, with others to lend partners where ``pairs`` need them."""
    keeps = [choice.keep(fate) for choice in choices]
    pieces = [int(keep.sum()) for keep in keeps]
    characters = [int(choice.characters[keep].sum()) for choice, keep in zip(choices, keeps, strict=True)]
    begins = [part.begins[keep] for part, keep in zip(parts, keeps, strict=True)]
    before = boundaries(np.array([each.sum() for each in begins], np.int64))
    documents = [first + np.cumsum(each) - 1 for first, each in zip(before[:-1], begins, strict=True)]
    for number, members in enumerate(groups(characters, pieces)):
        lent = partners(members, documents) if pairs else {}
        numbers = np.concatenate([*(documents[i] for i in members), *(documents[i][some] for i, some in lent.items())])
        own = [(parts[i], choices[i]) for i in members]
        others = [(parts[i], choices[i].only(fate, some)) for i, some in lent.items()]
        yield Group(split, number, numbers, (*own, *others), fate, len(others))


def _write_shards(
    config: CorpusConfig,
    folder: Path,
    work: Path,
    by_split: dict[str, list[Rows]],
    vocabulary: Tokenizer,
    workers: Workers,
) -> tuple[dict[str, SplitRecord], dict[str, Counted]]:
    """Deal the rows of each split, in one seeded order over all of them, into its shards."""
    jobs, owners = [], []
    special = special_ids(vocabulary)
    for split, rows in by_split.items():
        draw = generator(config.seed, f"order of {split}")
        for index, order in enumerate(orders(sum(each.count for each in rows), config.shards.rows_per_shard, draw)):
            jobs.append((folder / f"{split}-{index:05d}.arrow", order, rows, len(vocabulary), special, work))
            owners.append(split)
    written = workers.map("write shards", gather_shard, jobs)
    splits, counted = {}, {}
    for split in by_split:
        mine = [found for owner, found in zip(owners, written, strict=True) if owner == split]
        counted[split] = total([each for _, _, each in mine], len(vocabulary))
        splits[split] = SplitRecord(
            rows=counted[split].rows,
            tokens=sum(tokens for _, tokens, _ in mine),
            predictions=counted[split].predictions,
            shards=tuple(shard for shard, _, _ in mine),
        )
    return splits, counted


def _sources(
    config: CorpusConfig,
    inputs: Sequence[Unit],
    readings: Sequence[Reading],
    choices: Sequence[Choice],
    workers: Workers,
) -> tuple[SourceRow, ...]:
    """A row for each unit: its source with kind and weight, and what is left of it, each document counted once."""
    files = list(dict.fromkeys(unit.paths for unit in inputs))
    checksums = workers.map("checksum the sources", provenance.checksum, [(paths,) for paths in files])
    hashed = dict(zip(files, checksums, strict=True))
    rows: list[SourceRow] = []
    rest = iter(choices)
    for unit, reading in zip(inputs, readings, strict=True):
        kept = [(part, choice) for part, choice in zip(reading.parts, rest, strict=False)]
        rows.append(
            {
                "name": unit.name,
                "bytes": unit.bytes,
                "sha256": hashed[unit.paths],
                "source": unit.source,
                "kind": unit.kind,
                "weight": config.source[unit.source].weight,
                "documents_kept": sum(int((part.begins & choice.stays).sum()) for part, choice in kept),
                "characters_kept": sum(int(choice.characters[choice.stays].sum()) for _, choice in kept),
            }
        )
    return tuple(rows)


def _existing(config: CorpusConfig, inputs: Sequence[Unit], output: Path, console: Console) -> Path:
    """The same dataset is there already: nothing to do; anything else is not touched."""
    way_out = "choose another --output, or remove the folder to make it anew"
    if not (output / "manifest.json").is_file():
        raise DatasetError(f"{output}: is there already and is no dataset; {way_out}")
    manifest = shards.open_dataset(output, verify=False).manifest
    if manifest.recipe != config.recipe():
        raise DatasetError(f"{output}: holds a dataset of another recipe; {way_out}")
    found = [(source["name"], source["bytes"]) for source in manifest.sources]
    other_model = _given_digest(config) not in (None, manifest.tokenizer.sha256)
    if other_model or found != [(unit.name, unit.bytes) for unit in inputs]:
        raise DatasetError(f"{output}: holds a dataset of this recipe, but its input has changed since; {way_out}")
    console.print(f"{output}: is complete and of this recipe; nothing to do")
    return output
