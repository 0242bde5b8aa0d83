"""Tokenization of a task's files as [CLS] a [SEP], or [CLS] a [SEP] b [SEP] (BERT, figure 4)."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sesame.configs.errors import TaskError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.selection import limited, split
from sesame.evaluation.finetuning.text_encoding import encode_text
from sesame.evaluation.finetuning.windows import windows
from sesame.evaluation.reading.checks import check_files, check_training_labels
from sesame.evaluation.reading.tables import Examples, MissingFileError, read_table
from sesame.evaluation.tasks.task import Task


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

    @property
    def counted_dev(self) -> dict[str, EncodedExamples]:
        """The dev sets that count in the task's score, of those that are there."""
        return {prefix: dev for prefix, dev in self.dev.items() if prefix in self.task.counted}


def load_task(task: Task, config: FinetuneConfig, data_dir: Path, tokenizer: Tokenizer, predict: bool) -> TaskData:
    """Read and encode one task.

    Raises:
        MissingFileError: a training or dev file is absent.
        TaskError: a file breaks its layout, or is in the place of another.
    """
    files = _read(task, config, data_dir, predict)
    notes = [note for examples in files.values() for note in examples.notes] + check_files(task, data_dir, files)
    notes += _absent(task, files, predict)
    name = f"{task.name} (text to text)" if task.text is not None else task.name
    dev = {prefix: files[table.file] for prefix, table in task.dev.items() if table.file in files}
    test = {each: files[table.file] for each, table in task.test.items() if predict and table.file in files}
    title, train, file = name, None, ""
    if config.split_dev and task.train is not None:
        if task.text is not None and not task.text.words:
            raise TaskError(f"{task.name}: finetune.split_dev does not fit form 'text'; give its training file")
        title = f"{name} (dev split 80/20)"
        file = next(iter(task.dev.values())).file
        train, dev = split(dev)
        notes.append("trained on a random 80 % of the dev rows, scored on the other 20 %: not an official dev score")
    elif task.train is not None:
        file = task.train.file
        train = files[file]
    if train is not None:
        check_training_labels(task, data_dir / file, train.labels)
        # Rows that are left out are not encoded.
        train = limited(train, config.limit_train_rows, "trained", notes)
    if config.limit_dev_rows is not None:
        every = dev
        dev = {prefix: limited(each, config.limit_dev_rows, "scored", notes) for prefix, each in every.items()}
        if any(dev[prefix] is not each for prefix, each in every.items()):
            title += f" ({config.limit_dev_rows} dev rows)"
    encoder = _Encoder(task, tokenizer, config, {id(examples): file for file, examples in files.items()})
    return TaskData(
        task,
        title,
        encoder.encode(train, is_trained=True) if train is not None else None,
        {prefix: encoder.encode(each) for prefix, each in dev.items()},
        {each: encoder.encode(examples) for each, examples in test.items()},
        [*notes, *encoder.notes],
        tokenizer.name if task.text is not None else "",
    )


class _Encoder:
    """Encodes the files of a task, each once: AX-b and AX-g are scored and predicted."""

    def __init__(self, task: Task, tokenizer: Tokenizer, config: FinetuneConfig, names: dict[int, str]):
        self.task, self.tokenizer, self.config, self.names = task, tokenizer, config, names
        self.encoded: dict[int, EncodedExamples] = {}
        self.notes: list[str] = []

    def encode(self, examples: Examples, *, is_trained: bool = False) -> EncodedExamples:
        number = id(examples)
        if number not in self.encoded:
            self.encoded[number] = encoded = self._encode(examples, is_trained)
            if encoded.truncated:
                cut = f"{encoded.truncated} of {len(encoded.tokens)} sequences"
                file = self.names.get(number, "training rows" if is_trained else "dev rows")
                self.notes.append(f"{file}: {cut} are cut to {self.config.sequence_length} tokens")
        return self.encoded[number]

    def _encode(self, examples: Examples, is_trained: bool) -> EncodedExamples:
        length = self.config.sequence_length
        if self.task.text is not None:
            return encode_text(examples, self.task, self.tokenizer, length, is_trained)
        if self.task.kind == "extract":
            return windows(examples, self.tokenizer, length, self.config.window_stride)
        return encode(examples, self.tokenizer, length)


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
        examples.group_numbers,
        examples.categories,
        truncated,
        examples.right,
        examples.choices,
    )


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
