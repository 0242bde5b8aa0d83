"""Even portions: parts into groups for the workers, rows into shards that differ by one row at most."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from sesame.configs import Section
from sesame.data_pipeline.cleaning.pieces import GROUP_DOCUMENTS

GROUP_CHARACTERS = 2_000_000
"""Text that one task makes examples of, at least."""


class ShardConfig(Section):
    """How the examples are laid out on disk."""

    rows_per_shard: int = Field(default=65536, gt=0)
    """Most rows of one shard; the number of shards follows from it and the rows are shared out evenly."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the documents that is kept for validation, chosen by the hash of their text, so that it is stable."""


def groups(characters: Sequence[int], pieces: Sequence[int]) -> list[list[int]]:
    """Neighbouring parts (by number) together until both minima are met; a rest that is too small joins the last."""
    found: list[list[int]] = []
    open_group: list[int] = []
    for number, count in enumerate(pieces):
        if count:
            open_group.append(number)
        enough = sum(characters[i] for i in open_group) >= GROUP_CHARACTERS
        if enough and sum(pieces[i] for i in open_group) >= GROUP_DOCUMENTS:
            found.append(open_group)
            open_group = []
    if open_group and found and sum(pieces[i] for i in open_group) < GROUP_DOCUMENTS:
        found[-1] += open_group
    elif open_group:
        found.append(open_group)
    return found


def partners(members: Sequence[int], documents: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """Pieces of nearby parts, one of each other document, for a group with too few documents for random pairs.

    Args:
        members: the parts of the group, ascending.
        documents: int64 [pieces] number of the document of each piece, for each part.

    Returns:
        bool [pieces] by part, ascending; none where the group has documents enough, or where there are no others.
    """
    known = np.unique(np.concatenate([documents[part] for part in members]))
    found: dict[int, np.ndarray] = {}
    for distance in range(1, len(documents)):
        for part in (members[-1] + distance, members[0] - distance):
            missing = GROUP_DOCUMENTS - len(known)
            if missing <= 0:
                return dict(sorted(found.items()))
            if 0 <= part < len(documents):
                others, first = np.unique(documents[part], return_index=True)
                added = first[~np.isin(others, known)][:missing]
                if len(added):
                    found[part] = np.isin(np.arange(len(documents[part])), added)
                    known = np.union1d(known, documents[part][added])
    return dict(sorted(found.items()))


def orders(rows: int, rows_per_shard: int, draw: np.random.Generator) -> list[np.ndarray]:
    """The rows of each shard, in order: one permutation of all rows, cut evenly; none for no rows."""
    shards = -(-rows // rows_per_shard)
    return np.array_split(draw.permutation(rows), shards) if rows else []
