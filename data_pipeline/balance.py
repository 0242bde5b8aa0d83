"""Which row goes into which shard: one seeded order over all rows, cut into shards that differ by one row at most."""

import numpy as np
from pydantic import Field

from configs import Section


class ShardConfig(Section):
    """How the examples are laid out on disk."""

    rows_per_shard: int = Field(default=65536, gt=0)
    """Aim; the number of shards follows from it and the rows are shared out evenly."""
    validation_fraction: float = Field(default=0.02, gt=0, lt=1)
    """Share of the DOCUMENTS that is held out, chosen by the hash of their text, so that the choice is stable."""


def orders(rows: int, rows_per_shard: int, draw: np.random.Generator) -> list[np.ndarray]:
    """The rows of each shard, in order."""
    shards = max(1, -(-rows // rows_per_shard))
    return np.array_split(draw.permutation(rows), shards)


def held_out(fingerprint: bytes, fraction: float) -> bool:
    """Is the document with this fingerprint held out?"""
    return int.from_bytes(fingerprint[:8], "little") < fraction * 2**64
