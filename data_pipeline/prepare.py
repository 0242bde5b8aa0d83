"""Text -> dataset, top to bottom: read and clean, choose, train the tokenizer, make examples, shuffle into shards.

The work is cut into parts by the input alone, every part draws from a generator seeded with its own number, and parts
are put together in order. So the bytes do not depend on the number of workers or on who finishes first.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from rich.console import Console
from rich.table import Table

import configs
from configs import Section
from configs.errors import CorpusError, DatasetError
from data_pipeline import shards, tokenizer
from data_pipeline.balance import ShardConfig, held_out, orders
from data_pipeline.clean import CleanConfig
from data_pipeline.corrupt import CorruptConfig
from data_pipeline.examples import Counts, PartFiles, make_examples, read_unit, write_split_shard
from data_pipeline.segment import SegmentConfig
from data_pipeline.sources import SourceConfig, units
from data_pipeline.statistics import Statistics
from data_pipeline.tokenizer import TokenizerConfig
from data_pipeline.workers import Workers, WorkersConfig


class CorpusConfig(Section):
    """One complete run of ``sesame prepare``."""

    output: Path
    """Folder of the dataset."""
    seed: int = Field(default=1, ge=0)
    """Pairs, masks and the order of rows follow from it."""
    source: SourceConfig
    clean: CleanConfig = CleanConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    segment: SegmentConfig = SegmentConfig()
    corrupt: CorruptConfig = CorruptConfig()
    shards: ShardConfig = ShardConfig()
    workers: WorkersConfig = WorkersConfig()

    def recipe(self) -> dict[str, Any]:
        """All that has an influence on the bytes."""
        return {key: value for key, value in configs.dump(self).items() if key not in ("output", "workers")}


def prepare(config: CorpusConfig, output: Path) -> Path:
    """Make the dataset ``output``; written aside and renamed, so that what can be seen is complete.

    Raises:
        SesameError: the corpus or the configuration is at fault; nothing is left behind.
    """
    console = Console(highlight=False)
    if output.exists():
        return _existing(config, output, console)
    inputs = units(config.source)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with Workers(config.workers, console) as workers:
            _prepare(config, inputs, partial, workers, console)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output


def _prepare(config: CorpusConfig, inputs: list[Any], folder: Path, workers: Workers, console: Console) -> None:
    begin = time.perf_counter()
    work = folder / "work"
    work.mkdir()
    numbered = [(number, unit, config.source, config.clean, work) for number, unit in enumerate(inputs)]
    parts = [part for found in workers.map("read and clean", read_unit, numbered) for part in found]
    chosen = _choose(config, parts)
    counts = Counts.of(parts, chosen)
    if not counts.kept:
        dropped = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items()) or "nothing was read"
        raise CorpusError(f"the corpus has no document to train on ({dropped}); check source.paths and [clean]")
    model = _tokenizer(config, parts, chosen, workers)
    (folder / shards.TOKENIZER).write_bytes(model)
    _write_held_out(folder, parts, chosen)
    bases = np.concatenate([[0], np.cumsum([part.documents for part in parts])])
    jobs = [
        (number, part, chosen[number], int(bases[number]), model, config.recipe(), work)
        for number, part in enumerate(parts)
    ]
    made = workers.map("make examples", make_examples, jobs)
    columns, splits = _write_shards(config, folder, work, made, workers)
    manifest = _manifest(config, folder, counts, parts, columns, splits, model, made)
    shutil.rmtree(work)
    shards.write_manifest(folder, manifest)
    console.print(_summary(manifest, time.perf_counter() - begin))


def _choose(config: CorpusConfig, parts: list[PartFiles]) -> list[np.ndarray]:
    """For each part a code for each document: 0 dropped, 1 train, 2 validation; the first of equal texts stays."""
    seen: set[bytes] = set()
    limit = config.source.limit_megabytes * 1e6 or float("inf")
    size, chosen = 0, []
    for part in parts:
        codes = np.zeros(part.documents, np.int8)
        for row, (fingerprint, characters) in enumerate(zip(part.fingerprints, part.characters, strict=True)):
            if size >= limit or (config.clean.drop_duplicates and fingerprint in seen):
                continue
            seen.add(fingerprint)
            size += characters
            codes[row] = 2 if held_out(fingerprint, config.shards.validation_fraction) else 1
        chosen.append(codes)
    if not any((codes == 2).any() for codes in chosen):
        # A small corpus may miss the fraction by chance, and a run without held-out text could not be judged.
        part = next((number for number, codes in enumerate(chosen) if (codes == 1).sum() > 1), None)
        if part is not None:
            chosen[part][np.flatnonzero(chosen[part] == 1)[-1]] = 2
    return chosen


def _tokenizer(config: CorpusConfig, parts: list[PartFiles], chosen: list[np.ndarray], workers: Workers) -> bytes:
    """The bytes of the given model, or of one trained on an even sample of the documents that are trained on."""
    if config.tokenizer.model is not None:
        tokenizer.Tokenizer.load(config.tokenizer.model)
        return Path(config.tokenizer.model).read_bytes()
    total = sum(int(part.characters[codes == 1].sum()) for part, codes in zip(parts, chosen, strict=True))
    share = min(1.0, config.tokenizer.sample_megabytes * 1e6 / max(1, total))
    with workers.console.status("training the tokenizer"):
        return tokenizer.train(_sample(parts, chosen, share, config.seed), config.tokenizer)


def _sample(parts: list[PartFiles], chosen: list[np.ndarray], share: float, seed: int) -> Iterator[str]:
    draw = np.random.Generator(np.random.PCG64DXSM([seed, 2]))
    for part, codes in zip(parts, chosen, strict=True):
        for row, sentences in enumerate(part.sentences()):
            if codes[row] == 1:
                yield from (sentence for sentence in sentences if share >= 1 or draw.random() < share)


def _write_held_out(folder: Path, parts: list[PartFiles], chosen: list[np.ndarray]) -> None:
    with (folder / shards.DOCUMENTS).open("w", encoding="utf-8") as file:
        for part, codes in zip(parts, chosen, strict=True):
            for row, document in enumerate(part.texts()):
                if codes[row] == 2:
                    line = {"text": document.text, "source": document.source}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_shards(
    config: CorpusConfig, folder: Path, work: Path, made: list[dict[str, int]], workers: Workers
) -> tuple[tuple[str, ...], dict[str, shards.SplitRecord]]:
    splits, jobs = {}, []
    for number, split in enumerate(shards.SPLITS):
        rows = [part[split] for part in made]
        draw = np.random.Generator(np.random.PCG64DXSM([config.seed, 3, number]))
        for index, order in enumerate(orders(sum(rows), config.shards.rows_per_shard, draw)):
            jobs.append((split, folder / f"{split}-{index:05d}.arrow", order, rows, work))
    written = workers.map("write shards", write_split_shard, jobs)
    for split in shards.SPLITS:
        mine = [found for job, found in zip(jobs, written, strict=True) if job[0] == split]
        splits[split] = shards.SplitRecord(
            rows=sum(shard.rows for shard, *_ in mine),
            tokens=sum(tokens for _, tokens, _, _ in mine),
            predictions=sum(predictions for _, _, predictions, _ in mine),
            shards=tuple(shard for shard, *_ in mine),
        )
    if splits["train"].rows == 0:
        raise CorpusError("the corpus gives not one training example; give more text or a shorter segment.sequence_length")
    return written[0][3], splits


def _manifest(
    config: CorpusConfig,
    folder: Path,
    counts: Counts,
    parts: list[PartFiles],
    columns: tuple[str, ...],
    splits: dict[str, shards.SplitRecord],
    model: bytes,
    made: list[dict[str, int]],
) -> shards.Manifest:
    trained = tokenizer.Tokenizer(model, "the model")
    statistics = Statistics.of(
        shards.Split(folder, splits["train"], columns),
        shards.Split(folder, splits["validation"], columns),
        len(trained),
        trained.special.mask,
    )
    return shards.Manifest(
        format_version=shards.FORMAT_VERSION,
        code_version=_code_version(),
        seed=config.seed,
        columns=columns,
        recipe=config.recipe(),
        tokenizer=shards.TokenizerRecord(
            sha256=shards.digest(folder / shards.TOKENIZER),
            vocabulary_size=len(trained),
            special=trained.special._asdict(),
        ),
        splits=splits,
        documents_sha256=shards.digest(folder / shards.DOCUMENTS),
        documents=counts.as_record(),
        sources=tuple({"name": name, "characters": size} for name, size in counts.sources.items()),
        **statistics._asdict(),
    )


def _code_version() -> str:
    try:
        return version("sesame")
    except PackageNotFoundError:
        return "unknown"


def _existing(config: CorpusConfig, output: Path, console: Console) -> Path:
    """The same dataset is there already: nothing to do; anything else is not touched."""
    manifest = shards.read_manifest(output)
    if manifest.recipe != config.recipe():
        raise DatasetError(
            f"{output}: holds a dataset of another recipe; choose another --output, or remove the folder to make it anew"
        )
    console.print(f"{output}: is complete and of this recipe; nothing to do")
    return output


def _summary(manifest: shards.Manifest, seconds: float) -> Table:
    table = Table(title=f"prepared in {seconds:.0f} s", show_header=False, title_justify="left")
    for reason, count in manifest.documents.items():
        table.add_row(f"documents {reason}", f"{count:,}")
    for name, split in manifest.splits.items():
        shown = f"{split.rows:,} rows, {split.tokens:,} tokens, {split.predictions:,} predictions"
        table.add_row(name, f"{shown} in {len(split.shards)} shards")
    for name, share in manifest.masking.items():
        table.add_row(name.replace("_", " "), f"{share:.1%}")
    if manifest.pair_share is not None:
        table.add_row("pairs with label 1", f"{manifest.pair_share:.1%}")
    if manifest.unigram_cross_entropy_validation is not None:
        table.add_row("unigram level (validation)", f"{manifest.unigram_cross_entropy_validation:.3f} nat")
    return table
