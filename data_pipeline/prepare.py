"""Text -> dataset: read and clean, select, train the tokenizer, make examples, shuffle them into shards.

The jobs depend only on the input, each uses a random generator seeded with its own index, and results are combined in
order. So the bytes do not depend on the number of workers or on which one finishes first.
"""

import re
import shutil
import time
from pathlib import Path

from rich.console import Console

from sesame.configs.errors import SesameError, StorageError
from sesame.configs.storage import digest, write_bytes
from sesame.data_pipeline.cleaning import language
from sesame.data_pipeline.cleaning.parts import Part, Reading
from sesame.data_pipeline.cleaning.selection import counts
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset import provenance, shards
from sesame.data_pipeline.dataset.build import GroupRows, Recipe
from sesame.data_pipeline.dataset.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Shard,
    TokenizerRecord,
    write_manifest,
)
from sesame.data_pipeline.dataset.statistics import RowCounts, summarize
from sesame.data_pipeline.dataset.text_warnings import count_characters, warnings
from sesame.data_pipeline.examples.spans import special_ids
from sesame.data_pipeline.inspection.summary import summary
from sesame.data_pipeline.ledger import Ledger, close_folder, open_folder
from sesame.data_pipeline.sources import Unit
from sesame.data_pipeline.steps.documents import read_and_choose, source_rows, write_validation_documents
from sesame.data_pipeline.steps.examples import make_all_examples, write_shards
from sesame.data_pipeline.steps.inputs import check_existing, identity, list_units
from sesame.data_pipeline.steps.tokenizer import check_given_tokenizer, keeps_white_space, losses, make_tokenizer
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.workers import Workers

__all__ = ["CorpusConfig", "prepare"]

RESULTS = (Part, Reading, GroupRows, RowCounts, Shard)
"""Classes of the workers' results."""
WORK = "work"
"""Folder of intermediate files, inside the partial folder of the dataset."""
WRITTEN = re.compile(
    rf"{WORK}|{'|'.join(map(re.escape, (MANIFEST, shards.TOKENIZER, shards.DOCUMENTS, shards.PLACES)))}"
    rf"|({'|'.join(shards.SPLITS)})-\d{{5,}}\.arrow|\.sesame-\w+\.partial|\.nfs\w+",
    re.ASCII,
)
"""Names in the partial folder; the last is that of a removed file that is still open, on a network file system."""


def prepare(config: CorpusConfig, output: Path | None = None) -> Path:
    """Make a dataset; its folder appears when it is complete.

    An interrupted run, or one that a full disk has ended, leaves ``OUTPUT.partial``; the same call continues from the
    finished jobs in it.

    Args:
        output: folder of the dataset; None: ``config.output``.

    Returns:
        The folder.

    Raises:
        StorageError: a disk is full or has failed.
        SesameError: the corpus or the configuration is invalid; no files are left.
    """
    output = output or config.output
    console = Console(highlight=False)
    check_given_tokenizer(config)
    if config.clean.languages:
        language.check(config.clean.languages)
    inputs = list_units(config)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        check_existing(config, inputs, output, console)
        return output

    partial = output.with_name(output.name + ".partial")
    lock = open_folder(partial, identity(config, inputs), WRITTEN)
    start = time.perf_counter()
    try:
        with Workers(config.workers, console, Ledger(partial.resolve() / WORK / "ledger", RESULTS)) as workers:
            manifest = make_dataset(config, inputs, partial.resolve(), workers)
    except SesameError as error:
        if not isinstance(error, StorageError):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    close_folder(partial, lock, {MANIFEST, *shards.open_dataset(partial, verify=False).files()})
    partial.rename(output)

    console.print(summary(manifest, time.perf_counter() - start))
    for warning in warnings(manifest):
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if lost := losses(config, Tokenizer.load(output / shards.TOKENIZER)):
        console.print(f"not kept of the text: {'; '.join(lost)}", soft_wrap=True)
    return output


def make_dataset(config: CorpusConfig, inputs: list[Unit], folder: Path, workers: Workers) -> Manifest:
    """Write all files of the dataset into ``folder``, the manifest last."""
    work = folder / WORK
    documents = read_and_choose(config, inputs, keeps_white_space(config), work, workers)

    model = make_tokenizer(config, documents, workers)
    model_path = folder / shards.TOKENIZER
    write_bytes(model_path, model, durable=False)
    tokenizer = Tokenizer.from_bytes(model, "the tokenizer model")

    validation = write_validation_documents(folder / shards.DOCUMENTS, documents, work)
    provenance.write_places(folder / shards.PLACES, documents.parts, documents.choices)

    recipe = Recipe(config.seed, config.segment, config.corrupt, model_path, digest(model_path))
    examples = make_all_examples(documents, validation, recipe, work, workers)
    splits = write_shards(config, examples, tokenizer, folder, work, workers)

    manifest = Manifest(
        format_version=FORMAT_VERSION,
        code_version=provenance.code_version(),
        seed=config.seed,
        columns=examples.columns,
        recipe=config.recipe(),
        tokenizer=TokenizerRecord(
            sha256=recipe.tokenizer_sha256, vocabulary_size=len(tokenizer), special=special_ids(tokenizer)
        ),
        splits={name: split.record for name, split in splits.items()},
        documents_sha256=digest(folder / shards.DOCUMENTS),
        places_sha256=digest(folder / shards.PLACES),
        documents=counts(documents.readings, documents.choices),
        text=count_characters(documents.readings, documents.choices) | examples.token_counts,
        sources=source_rows(config, inputs, documents, workers),
        **summarize(splits["train"].counts, splits["validation"].counts, examples.columns)._asdict(),
    )
    write_manifest(folder, manifest)
    return manifest
