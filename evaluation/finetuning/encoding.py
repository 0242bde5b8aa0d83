"""Tokenization of a task's files as [CLS] a [SEP], or [CLS] a [SEP] b [SEP] (BERT, figure 4)."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sesame.configs.errors import TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.text_encoding import encode_text
from sesame.evaluation.finetuning.windows import windows
from sesame.evaluation.reading.checks import check_files, check_training_labels
from sesame.evaluation.reading.tables import Examples, MissingFileError, read_table
from sesame.evaluation.tasks.task import Task

SPLIT_SEED = 20180420
"""Seed of the rows chosen by ``split_dev`` and ``limit_train_rows``: the same rows for every seed and model."""
TRAIN_SHARE_OF_DEV = 0.8


@dataclass(frozen=True)
class TaskData:
    """Encoded files of one task."""

    task: Task
    title: str
    """The task's name, and in parentheses how it differs from the official task."""
    train: EncodedExamples | None
    """None: the task is scored without fine-tuning."""
    dev: dict[str, EncodedExamples]
    test: dict[str, EncodedExamples]
    notes: list[str] = field(default_factory=list)
    """Remarks for the report."""
    tokenizer: str = ""
    """Path of the tokenizer's file, for a task that a decoder answers."""


def load_task(task: Task, config: FinetuneConfig, data_dir: Path, tokenizer: Tokenizer, predict: bool) -> TaskData:
    """Read and encode one task.

    Raises:
        MissingFileError: a training or dev file is absent.
        TaskError: a file breaks its layout, or is in the place of another.
    """
    files = _read(task, config, data_dir, predict)
    notes = [note for examples in files.values() for note in examples.notes] + check_files(task, data_dir, files)
    notes += _absent(task, files, predict)
    encoded = {file: _encoded(task, file, examples, tokenizer, config) for file, examples in files.items()}
    notes += [
        f"{file}: {examples.truncated} of {len(examples.tokens)} sequences are cut to {config.sequence_length} tokens"
        for file, examples in encoded.items()
        if examples.truncated
    ]
    dev = {prefix: encoded[table.file] for prefix, table in task.dev.items() if table.file in encoded}
    test = {name: encoded[table.file] for name, table in task.test.items() if predict and table.file in encoded}
    name = f"{task.name} (text to text)" if task.text is not None else task.name
    title, train = name, None
    if config.split_dev and task.train is not None:
        if task.text is not None and not task.text.words:
            raise TaskError(f"{task.name}: finetune.split_dev does not fit form 'text'; give its training file")
        title = f"{name} (dev split 80/20)"
        train, dev = _split(dev)
        notes.append("trained on a random 80 % of the dev rows, scored on the other 20 %: not an official dev score")
    elif task.train is not None:
        train = encoded[task.train.file]
        check_training_labels(task, data_dir / task.train.file, files[task.train.file].labels)
    if train is not None:
        train = _limited(train, config.limit_train_rows, "trained", notes)
    if config.limit_dev_rows is not None:
        title += f" ({config.limit_dev_rows} dev rows)"
        dev = {prefix: _limited(each, config.limit_dev_rows, "scored", notes) for prefix, each in dev.items()}
    return TaskData(task, title, train, dev, test, notes, tokenizer.name if task.text is not None else "")


def encode(examples: Examples, tokenizer: Tokenizer, sequence_length: int) -> EncodedExamples:
    """Tokenize, and truncate long sequences at the end of the longer text, token by token (BERT's published code).

    A text with a gap is truncated on both sides of it.
    """
    special = tokenizer.special
    columns = [tokenizer.encode_batch(column) for column in zip(*examples.texts, strict=True)]
    tokens, firsts, truncated, starts = [], [], 0, []
    for number, pieces in enumerate(zip(*columns, strict=True)):
        lengths = [len(part) for part in pieces]
        kept = _truncated(lengths, sequence_length - 1 - len(pieces))
        truncated += kept != lengths
        skipped = _skipped(examples, number, tokenizer, lengths, kept)
        ids, begins = [special.cls], []
        for part, skip, length in zip(pieces, skipped, kept, strict=True):
            begins.append((len(ids), length))
            ids += [*part[skip : skip + length], special.sep]
        tokens.append(np.array(ids, np.int32))
        firsts.append(kept[0] + 2)
        starts.append(begins)
    return EncodedExamples(
        tokens,
        np.array(firsts, np.int64),
        examples.labels,
        examples.indices,
        None if examples.counts is None else np.array(examples.counts, np.int64),
        _spans(examples, tokenizer, starts),
        None if examples.groups is None else np.unique(np.array(examples.groups), return_inverse=True)[1],
        examples.categories,
        truncated,
        examples.right,
        examples.choices,
    )


def _encoded(
    task: Task, file: str, examples: Examples, tokenizer: Tokenizer, config: FinetuneConfig
) -> EncodedExamples:
    if task.text is not None:
        trained = list(task.dev.values())[:1] if config.split_dev else [task.train]
        is_trained = any(table is not None and table.file == file for table in trained)
        return encode_text(examples, task, tokenizer, config.sequence_length, is_trained)
    if task.kind == "extract":
        return windows(examples, tokenizer, config.sequence_length, config.window_stride)
    return encode(examples, tokenizer, config.sequence_length)


def _skipped(examples: Examples, sequence: int, tokenizer: Tokenizer, lengths: list[int], kept: list[int]) -> list[int]:
    """Tokens of each text of a sequence that are left out at its beginning, so that its gap is in the middle."""
    skipped = [0] * len(lengths)
    if examples.gaps is None or kept == lengths:
        return skipped
    column, start, end = examples.gaps[sequence]
    text = examples.texts[sequence][column]
    before, until = (len(ids) for ids in tokenizer.encode_batch([text[:start].rstrip(), text[:end]]))
    first = before - (kept[column] - (until - before)) // 2
    skipped[column] = min(max(first, 0), lengths[column] - kept[column])
    return skipped


def _spans(examples: Examples, tokenizer: Tokenizer, starts: list[list[tuple[int, int]]]) -> np.ndarray | None:
    """Token positions of the spans: as many tokens are before a span as the text before it has."""
    if examples.spans is None:
        return None
    ranges = [
        (texts[text], *where) for texts, row in zip(examples.texts, examples.spans, strict=True) for text, *where in row
    ]
    before = tokenizer.encode_batch([text[:start].rstrip() for text, start, _ in ranges])
    until = tokenizer.encode_batch([text[:end] for text, _, end in ranges])
    counts = iter(zip(before, until, strict=True))
    spans = []
    for begins, row in zip(starts, examples.spans, strict=True):
        for text, *_ in row:
            first, length = begins[text]
            before_ids, until_ids = next(counts)
            # A span that was cut off is the last token that was kept.
            start = min(len(before_ids), max(length - 1, 0))
            spans.append((first + start, first + min(max(len(until_ids), start + 1), max(length, start + 1))))
    return np.array(spans, np.int64).reshape(len(starts), -1, 2)


def _read(task: Task, config: FinetuneConfig, data_dir: Path, predict: bool) -> dict[str, Examples]:
    """Examples by file; without the test and optional dev files that are absent."""
    required = [table for table in task.dev.values() if not table.optional]
    if task.train is not None and not config.split_dev:
        required.append(task.train)
    optional = [table for table in task.dev.values() if table.optional]
    optional += task.test.values() if predict else []
    files = {table.file: read_table(data_dir, table, task) for table in required}
    for table in optional:
        if table.file in files:
            # AX-b and AX-g are scored and predicted: the one reading has the labels.
            continue
        try:
            files[table.file] = read_table(data_dir, table, task)
        except MissingFileError:
            continue
    return files


def _absent(task: Task, files: dict[str, Examples], predict: bool) -> list[str]:
    dev = [table.file for table in task.dev.values() if table.file not in files]
    notes = [f"{file} is missing: it is not scored" for file in dev]
    if not predict:
        return notes
    for name, table in task.test.items():
        if table.file not in files:
            notes.append(f"{table.file} is missing: no predictions for {name}")
            continue
        rows = len(files[table.file].indices)
        if table.rows is not None and (rows < table.rows or (rows > table.rows and not table.indices.more_rows)):
            notes.append(f"{table.file} has {rows} rows, the official release {table.rows}")
    return notes


def _truncated(lengths: list[int], limit: int) -> list[int]:
    """Lengths of the texts after truncation to ``limit`` tokens together, with the longer text truncated first."""
    if len(lengths) == 1 or sum(lengths) <= limit:
        return [min(length, limit) for length in lengths]
    first, second = lengths
    half = limit // 2
    kept_second = min(second, max(half, limit - first))
    return [min(first, limit - kept_second), kept_second]


def _split(dev: dict[str, EncodedExamples]) -> tuple[EncodedExamples, dict[str, EncodedExamples]]:
    """Split the first dev set into (train, dev); further dev sets (MNLI's mismatched) are not split."""
    prefix, examples = next(iter(dev.items()))
    order = np.random.default_rng(SPLIT_SEED).permutation(examples.rows)
    cut = round(TRAIN_SHARE_OF_DEV * len(order))
    return examples.take(order[:cut]), {**dev, prefix: examples.take(order[cut:])}


def _limited(examples: EncodedExamples, limit: int | None, verb: str, notes: list[str]) -> EncodedExamples:
    if limit is None or limit >= examples.rows:
        return examples
    notes.append(f"{verb} on {limit} of {examples.rows} rows, drawn at random")
    generator = np.random.default_rng(SPLIT_SEED)
    if examples.groups is None:
        return examples.take(generator.permutation(examples.rows)[:limit])
    # Rows that are scored together stay together.
    order = generator.permutation(int(examples.groups.max()) + 1)[examples.groups]
    return examples.take(np.argsort(order, kind="stable")[:limit])
