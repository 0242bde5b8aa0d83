"""How much of the text of the documents is in the rows, for ``sesame verify``."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from configs.errors import DatasetError
from data_pipeline.dataset.shards import Dataset
from data_pipeline.ragged import Columns
from data_pipeline.verification.documents import Documents
from data_pipeline.verification.promises import PAIRS, specials
from data_pipeline.verification.reference_tokenizer import ReferenceTokenizer

AGAIN = "prepare the dataset again"
UNREPORTED = 0.03
"""Share of the text that may be lost without a warning."""
MOST = {False: 0.15, True: 0.6}
"""Share that may be lost at all, by whether rows are pairs: those of before lost half a sentence each, for they were
cut to their length as in BERT's published code."""
LONG = 0.5
"""Share of the text in sentences that are longer than a row, from which on it is worth a word."""
UNKNOWN = 0.02
"""Share of unknown tokens that is not worth a word."""
SURPLUS = {False: 0.1, True: 0.6}
"""Share of text beyond that of the documents that forms of Unicode and sampling may account for, by whether rows are
pairs: a sentence that has no partner left is paired with the one before it, which then comes twice."""


class Coverage:
    """What the rows of a split hold of their own documents; partners from others do not count."""

    def __init__(self, tokenizer: ReferenceTokenizer, documents: Documents, split: str):
        self.identities = documents.identities[split]
        self.documents, self.split, self.tokenizer = documents, split, tokenizer
        self.visible = self.tokens = self.unknown = 0
        self._some = None
        if split == "validation":
            self._some = np.array(list(documents.texts[split]), np.int64)

    def add(self, columns: Columns) -> None:
        """Count some rows; of the validation split only those of the documents whose text is known."""
        every: Any = columns
        tokens = every["tokens"]
        ids = tokens.values.copy()
        if "mask_labels" in columns:
            positions = every["mask_positions"]
            ids[positions.values + np.repeat(tokens.offsets[:-1], positions.lengths)] = every["mask_labels"].values
        rows = len(tokens.lengths)
        own = np.full(rows, np.iinfo(np.int64).max)
        if "second_document" in columns:
            random = every["document"] != every["second_document"]
            own[random] = every["first_segment_length"][random]
        counts = np.ones(rows, bool) if self._some is None else np.isin(every["document"], self._some)
        own[~counts] = 0
        place = np.arange(len(ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
        self._count(ids[place < np.repeat(own, tokens.lengths)])
        if "target_tokens" in columns:
            targets = every["target_tokens"]
            self._count(targets.values[np.repeat(counts, targets.lengths)])

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
        """Share of so many visible characters that is in no row; an unknown token stands for as many as others."""
        return 1 - self.visible / max(1.0, expected) / max(1e-9, 1 - self.unknown_share)


def losses(dataset: Dataset, coverages: Mapping[str, Coverage]) -> list[str]:
    """What is lost of each split.

    Raises:
        DatasetError: that is too much, or the manifest counts text that is not there, or too little.
    """
    pairs = dataset.manifest.recipe["segment"]["kind"] in PAIRS
    found: list[str] = []
    for name, coverage in coverages.items():
        fewest, most = (_expected(dataset, coverage, whole) for whole in (math.floor, math.ceil))
        if not fewest:
            continue
        if coverage.unknown_share > UNKNOWN:
            # One unknown token may stand for any number of characters.
            found.append(
                f"warning: {coverage.unknown_share:.1%} of the {name} tokens are unknown to the tokenizer, so how much "
                "of the text is in the rows cannot be told"
            )
            continue
        lost = coverage.lost(fewest)
        shown = f"{max(0.0, lost):.1%} of the text of the {name} documents is in no row"
        if lost > MOST[pairs]:
            raise DatasetError(
                f"{dataset.path}: {shown}; sentences are longer than segment.sequence_length, or characters_kept in "
                f"the manifest is too large; {AGAIN}"
            )
        if (surplus := -coverage.lost(most)) > SURPLUS[pairs]:
            raise DatasetError(
                f"{dataset.path}: the rows of {name} hold {surplus:.1%} more text than the manifest counts; {AGAIN}"
            )
        found.append(f"{'warning: ' if lost > UNREPORTED else 'loss: '}{shown}")
        room = dataset.manifest.recipe["segment"]["sequence_length"] - specials(dataset.manifest)
        longer = share_in_long_sentences(coverage, room)
        if longer > LONG and dataset.manifest.recipe["segment"]["kind"] != "contiguous":
            found.append(
                f"warning: {longer:.1%} of the text of the {name} documents is in sentences longer than a row; is "
                "their script split into sentences? a longer segment.sequence_length keeps more of them whole"
            )
    return found


def share_in_long_sentences(coverage: Coverage, room: int) -> float:
    """Share of the text between marks that end sentences that is longer than so many tokens."""
    texts = coverage.documents.texts[coverage.split].values()
    sizes = np.concatenate([np.zeros(0, np.int64), *(text.sentences for text in texts)])
    tokens = sizes * (coverage.tokens / max(1, coverage.visible))
    return float(sizes[tokens > room].sum() / max(1, sizes.sum()))


def _expected(dataset: Dataset, coverage: Coverage, whole: Callable[[float], int]) -> float:
    """Visible characters that the rows have to hold, if each document of a weight such as 2.5 comes ``whole(2.5)``
    times."""
    documents = coverage.documents
    if coverage.split == "validation":
        return float(sum(text.visible for text in documents.texts["validation"].values()))
    if documents.visible_share is None:
        return 0.0
    kept: dict[int, int] = {}
    for row in dataset.manifest.sources:
        turns = max(1, whole(row["weight"]))
        kept[turns] = kept.get(turns, 0) + row["characters_kept"]
    passes = sum(times * characters for times, characters in kept.items()) / max(1, sum(kept.values()))
    passes *= dataset.manifest.recipe["segment"].get("dupe_factor", 1)
    return documents.trained_characters * documents.visible_share * passes
