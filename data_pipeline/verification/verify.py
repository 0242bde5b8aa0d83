"""Check everything that a dataset states against what is on disk.

No code that makes datasets is used: rows are counted, converted back to text and checked by separate code, with the
tokenizer's file as its library reads it.
"""

from pathlib import Path

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.manifest import Manifest
from sesame.data_pipeline.dataset.shards import SPLITS, open_dataset
from sesame.data_pipeline.verification import PREPARE_AGAIN
from sesame.data_pipeline.verification.coverage import coverage_findings
from sesame.data_pipeline.verification.documents import Documents, read_documents
from sesame.data_pipeline.verification.recipe_checks import mask_findings, pair_findings
from sesame.data_pipeline.verification.recount import agrees, observed
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.split_check import SplitCheck


def verify(path: str | Path) -> list[str]:
    """Check a dataset and return the findings, one a line.

    Raises:
        DatasetError: a file differs from its checksum, or the rows from the recipe, the manifest or their documents.
    """
    dataset = open_dataset(path, verify=True)
    manifest = dataset.manifest
    tokenizer = ReferenceTokenizer.load(dataset.tokenizer_path, manifest.tokenizer.special)
    if len(tokenizer.texts) != manifest.tokenizer.vocabulary_size:
        stated = manifest.tokenizer.vocabulary_size
        raise DatasetError(f"{path}: the tokenizer has {len(tokenizer.texts)} pieces, not {stated}; {PREPARE_AGAIN}")
    documents = read_documents(dataset, tokenizer)
    checks = {name: SplitCheck(dataset, name, tokenizer, documents) for name in manifest.splits}
    train, validation = (checks[name].counted for name in SPLITS)
    values = observed(train, validation, manifest.columns)
    if wrong := [name for name, value in values.items() if not agrees(getattr(manifest, name), value)]:
        raise DatasetError(f"{path}: {', '.join(wrong)} in the manifest differ from the rows; {PREPARE_AGAIN}")
    return [
        f"checksums: {len(dataset.files()) + 1} files match",
        documents.finding,
        *_split_findings(manifest),
        f"lengths: {len(manifest.lengths)} bins of the histogram are as in the manifest",
        *mask_findings(dataset, train),
        *pair_findings(dataset, checks),
        *_baseline(manifest),
        _text_finding(checks, documents),
        *coverage_findings(dataset, {name: check.coverage for name, check in checks.items()}),
    ]


def _split_findings(manifest: Manifest) -> list[str]:
    return [
        f"{name}: {split.rows:,} rows, {split.tokens:,} tokens, {split.predictions:,} predictions in "
        f"{len(split.shards)} shards, as in the manifest; every row is well formed"
        for name, split in manifest.splits.items()
    ]


def _baseline(manifest: Manifest) -> list[str]:
    baseline = manifest.unigram_cross_entropy_validation
    return [] if baseline is None else [f"unigram baseline: {baseline:.3f} nats on the validation split"]


def _text_finding(checks: dict[str, SplitCheck], documents: Documents) -> str:
    compared = [
        f"{check.compared:,} rows of {len(documents.texts[name]):,} {name} documents" for name, check in checks.items()
    ]
    return f"text: {' and '.join(compared)} decode to text that is in their documents{documents.unread}"
