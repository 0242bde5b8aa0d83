"""How much of the text of the documents is in the rows."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.ragged import Columns
from sesame.data_pipeline.verification import PREPARE_AGAIN
from sesame.data_pipeline.verification.documents import Documents
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.row_rules import PAIRS, special_tokens

LOSS_WITHOUT_WARNING = 0.03
"""Share of the text that may be in no row without a warning."""
MAXIMUM_LOSS = {False: 0.15, True: 0.6}
"""Share of the text that may be in no row, by whether rows are pairs. Pairs of older versions lost half a sentence
each, because they were truncated as in BERT's published code."""
LONG_WITHOUT_WARNING = 0.5
"""Share of the text that may be in sentences longer than a row without a warning."""
UNKNOWN_WITHOUT_WARNING = 0.02
"""Share of unknown tokens without a warning."""
MAXIMUM_SURPLUS = {False: 0.1, True: 0.6}
"""Share of text in the rows beyond that of the documents, by whether rows are pairs. Unicode forms and sampling explain
some; and a last sentence is paired with the one before it, which is then in two rows."""


class Coverage:
    """Sums over the rows of a split, without random second segments, which are from other documents."""

    def __init__(self, tokenizer: ReferenceTokenizer, documents: Documents, split: str):
        self.identities = documents.identities[split]
        self.documents, self.split, self.tokenizer = documents, split, tokenizer
        self.visible = self.tokens = self.unknown = 0
        self._counted_documents = None
        if split == "validation":
            self._counted_documents = np.array(list(documents.texts[split]), np.int64)

    def add(self, columns: Columns) -> None:
        """Count a block of rows; of the validation split, only rows of documents whose text is known."""
        values: Any = columns
        tokens = values["tokens"]
        ids = tokens.values.copy()
        if "mask_labels" in columns:
            positions = values["mask_positions"]
            ids[positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)] = values["mask_labels"].values
        rows = len(tokens.lengths)
        # Tokens of each row that are from its own document: all, or the first segment before a random one.
        own = np.full(rows, np.iinfo(np.int64).max)
        if "second_document" in columns:
            random = values["document"] != values["second_document"]
            own[random] = values["first_segment_length"][random]
        is_counted = np.ones(rows, bool)
        if self._counted_documents is not None:
            is_counted = np.isin(values["document"], self._counted_documents)
        own[~is_counted] = 0
        position = np.arange(len(ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
        self._count(ids[position < np.repeat(own, tokens.lengths)])
        if "target_tokens" in columns:
            targets = values["target_tokens"]
            self._count(targets.values[np.repeat(is_counted, targets.lengths)])

    def _count(self, ids: np.ndarray) -> None:
        self.visible += int(self.tokenizer.visible[ids].sum())
        unknown = self.tokenizer.unknown[ids]
        self.unknown += int(unknown.sum())
        self.tokens += len(ids) - int(unknown.sum())
        self.visible -= int(self.tokenizer.visible[ids[unknown]].sum())

    @property
    def unknown_share(self) -> float:
        return self.unknown / max(1, self.unknown + self.tokens)

    def lost(self, expected: float) -> float:
        """Share of ``expected`` visible characters that is in no row, if unknown tokens are as long as others."""
        return 1 - self.visible / max(1.0, expected) / max(1e-9, 1 - self.unknown_share)


def coverage_findings(dataset: Dataset, coverages: Mapping[str, Coverage]) -> list[str]:
    """Report how much of the text of each split is in no row.

    Raises:
        DatasetError: it is too much, or the rows have more text than the manifest counts.
    """
    return [finding for coverage in coverages.values() for finding in _split_findings(dataset, coverage)]


def _split_findings(dataset: Dataset, coverage: Coverage) -> list[str]:
    name, segment = coverage.split, dataset.manifest.recipe["segment"]
    fewest, most = (_expected_characters(dataset, coverage, rounded) for rounded in (math.floor, math.ceil))
    if not fewest:
        return []
    if coverage.unknown_share > UNKNOWN_WITHOUT_WARNING:
        # One unknown token may stand for any number of characters.
        return [
            f"warning: {coverage.unknown_share:.1%} of the {name} tokens are unknown to the tokenizer, so how much "
            "of the text is in the rows is not known"
        ]
    lost, surplus = coverage.lost(fewest), -coverage.lost(most)
    finding = f"{max(0.0, lost):.1%} of the text of the {name} documents is in no row"
    if lost > MAXIMUM_LOSS[segment["kind"] in PAIRS]:
        raise DatasetError(
            f"{dataset.path}: {finding}; sentences are longer than segment.sequence_length, or characters_kept in "
            f"the manifest is too large; {PREPARE_AGAIN}"
        )
    if surplus > MAXIMUM_SURPLUS[segment["kind"] in PAIRS]:
        raise DatasetError(
            f"{dataset.path}: the rows of {name} have {surplus:.1%} more text than the manifest counts; {PREPARE_AGAIN}"
        )
    findings = [f"{'warning: ' if lost > LOSS_WITHOUT_WARNING else 'loss: '}{finding}"]
    longer = share_in_long_sentences(coverage, segment["sequence_length"] - special_tokens(dataset.manifest))
    if longer > LONG_WITHOUT_WARNING and segment["kind"] != "contiguous":
        findings.append(
            f"warning: {longer:.1%} of the text of the {name} documents is in sentences longer than a row; is "
            "their script split into sentences? a longer segment.sequence_length keeps more of them whole"
        )
    return findings


def share_in_long_sentences(coverage: Coverage, row_tokens: int) -> float:
    """Return the share of the text that is in sentences of more than ``row_tokens``."""
    texts = coverage.documents.texts[coverage.split].values()
    sizes = np.concatenate([np.zeros(0, np.int64), *(text.sentences for text in texts)])
    tokens = sizes * (coverage.tokens / max(1, coverage.visible))
    return float(sizes[tokens > row_tokens].sum() / max(1, sizes.sum()))


def _expected_characters(dataset: Dataset, coverage: Coverage, rounded: Callable[[float], int]) -> float:
    """Visible characters that the rows should have, if documents of weight 2.5 are used ``rounded(2.5)`` times."""
    documents = coverage.documents
    if coverage.split == "validation":
        return float(sum(text.visible for text in documents.texts["validation"].values()))
    if documents.visible_share is None:
        return 0.0
    kept: dict[int, int] = {}
    for row in dataset.manifest.sources:
        times = max(1, rounded(row["weight"]))
        kept[times] = kept.get(times, 0) + row["characters_kept"]
    passes = sum(times * characters for times, characters in kept.items()) / max(1, sum(kept.values()))
    passes *= dataset.manifest.recipe["segment"].get("dupe_factor", 1)
    return documents.train_characters * documents.visible_share * passes
