"""What is asked of ``sesame plan``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

# Of pretrain/planning; a stage is imported by the functions that need it.
Assumptions: TypeAlias = Any
Plan: TypeAlias = Any
Planner: TypeAlias = Any

DEVICE = "h100-80gb"
"""Taken if no other is named."""


class Request(NamedTuple):
    """The options of the command."""

    run: Path
    overrides: Sequence[str]
    devices: int | None
    device: str | None
    """As the user named it; None: ``DEVICE``."""
    machine: Path | None
    memory_gib: float | None
    """Plan for devices with so much memory; without ``devices``, for as few of them as possible."""
    as_configured: bool
    """Only the layout of the run's file."""
    assume: Sequence[str]
    vocabulary: int | None
    sequence_length: int | None
    corpus: Path | None
