"""Random numbers of dropout, which follow from the place of a micro-batch in the run."""

import hashlib

import torch


def seed_dropout(seed: int, step: int, position: int) -> None:
    """Seed dropout by step and position of the micro-batch in it, so that a resumed run draws the same."""
    digest = hashlib.sha256(f"{seed}/{step}/{position}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
