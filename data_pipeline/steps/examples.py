"""Documents -> examples, by groups, and examples -> shards."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sesame.configs.errors import CorpusError
from sesame.data_pipeline.cleaning.selection import Outcome
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.dataset.build import GroupRows, Recipe, gather_shard, make_examples
from sesame.data_pipeline.dataset.groups import DocumentGroup
from sesame.data_pipeline.dataset.manifest import SplitRecord
from sesame.data_pipeline.dataset.shards import SPLITS
from sesame.data_pipeline.dataset.statistics import RowCounts, total
from sesame.data_pipeline.examples.balance import groups, orders, partners
from sesame.data_pipeline.examples.spans import special_ids
from sesame.data_pipeline.ragged import boundaries
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.steps.documents import Documents
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.workers import Workers


class Examples(NamedTuple):
    """Examples on disk, not yet shuffled."""

    by_split: dict[str, list[GroupRows]]
    """For each group that has rows: its file."""
    token_counts: Counter[str]
    """Tokens of the training documents, under the names in ``text_warnings.py``."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.by_split["train"][0].columns


class WrittenSplit(NamedTuple):
    """A split on disk."""

    record: SplitRecord
    counts: RowCounts


def make_all_examples(
    train: Documents, validation: Documents, recipe: Recipe, work: Path, workers: Workers
) -> Examples:
    """Make the examples of both splits.

    Raises:
        CorpusError: there is no example to train on.
    """
    pairs = recipe.segment.kind == "next_sentence"
    jobs = [
        *_groups("train", Outcome.TRAIN, train, pairs=pairs),
        *_groups("validation", Outcome.VALIDATION, validation, pairs=pairs),
    ]
    rows: list[GroupRows] = workers.map("make examples", make_examples, [(group, recipe, work) for group in jobs])
    by_split = {
        split: [made for group, made in zip(jobs, rows, strict=True) if group.split == split and made.count]
        for split in SPLITS
    }
    if not by_split["train"]:
        raise CorpusError("the corpus gives not one example; give more text or a shorter segment.sequence_length")
    token_counts = Counter[str]()
    for group, made in zip(jobs, rows, strict=True):
        if group.split == "train" and made.token_counts:
            token_counts.update(made.token_counts)
    return Examples(by_split, token_counts)


def write_shards(
    config: CorpusConfig, examples: Examples, tokenizer: Tokenizer, folder: Path, work: Path, workers: Workers
) -> dict[str, WrittenSplit]:
    """Write the rows of each split into its shards, in one seeded random order."""
    special = special_ids(tokenizer)
    jobs = {split: [] for split in examples.by_split}
    for split, rows in examples.by_split.items():
        rng = generator(config.seed, f"order of {split}")
        for index, order in enumerate(orders(sum(each.count for each in rows), config.shards.rows_per_shard, rng)):
            jobs[split].append((folder / f"{split}-{index:05d}.arrow", order, rows, len(tokenizer), special, work))
    # In one call, so that no worker waits for the end of a split.
    written = iter(workers.map("write shards", gather_shard, [job for split in jobs.values() for job in split]))
    return {split: _split([next(written) for _ in own], len(tokenizer)) for split, own in jobs.items()}


def _split(shards: list, vocabulary_size: int) -> WrittenSplit:
    split_counts = total([counts for _, _, counts in shards], vocabulary_size)
    record = SplitRecord(
        rows=split_counts.rows,
        tokens=sum(tokens for _, tokens, _ in shards),
        predictions=split_counts.predictions,
        shards=tuple(shard for shard, _, _ in shards),
    )
    return WrittenSplit(record, split_counts)


def _groups(split: str, outcome: Outcome, documents: Documents, *, pairs: bool) -> Iterator[DocumentGroup]:
    """Yield the documents of one outcome in groups; with ``pairs`` small groups get partners from other groups."""
    parts, choices = documents.parts, documents.choices
    keeps = [choice.keep(outcome) for choice in choices]
    pieces = [int(keep.sum()) for keep in keeps]
    characters = [int(choice.characters[keep].sum()) for choice, keep in zip(choices, keeps, strict=True)]
    begins = [part.begins[keep] for part, keep in zip(parts, keeps, strict=True)]
    before = boundaries(np.array([each.sum() for each in begins], np.int64))
    numbers = [first + np.cumsum(each) - 1 for first, each in zip(before[:-1], begins, strict=True)]
    for number, members in enumerate(groups(characters, pieces)):
        chosen = partners(members, numbers) if pairs else {}
        own = [(parts[i], choices[i]) for i in members]
        others = [(parts[i], choices[i].only(outcome, pieces)) for i, pieces in chosen.items()]
        of_pieces = [*(numbers[i] for i in members), *(numbers[i][pieces] for i, pieces in chosen.items())]
        yield DocumentGroup(split, number, np.concatenate(of_pieces), (*own, *others), outcome, len(others))
