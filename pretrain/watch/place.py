"""Which process, micro-batch and rows something was in, and the command that shows such a row."""

from typing import NamedTuple

import numpy as np

from sesame.data_pipeline.dataset.shards import Dataset
from sesame.pretrain.data.stages import AnyBatches
from sesame.pretrain.watch.findings import Finding, MicroBatch

SHOWN = 4
"""Row numbers in a message; the event has all of them."""


class Place(NamedTuple):
    """Where something was found."""

    rank: int | None
    """Process, of tensor-parallel ones the first; None if it is not known."""
    rows: np.ndarray
    """Of the train split: of the micro-batch, or of the whole step."""
    text: str


class Gradients(NamedTuple):
    """Gradients of the micro-batches of a step, computed again."""

    norms_AR: np.ndarray
    """[micro-batches of a process, data-parallel processes]."""
    parameter: str | None
    """The first whose gradient is not finite."""

    def micro_batch(self) -> MicroBatch:
        """Return that with the largest norm, or with one that is not finite."""
        broken_AR = ~np.isfinite(self.norms_AR)
        return MicroBatch.of_largest(broken_AR if broken_AR.any() else self.norms_AR)


def place_of(finding: Finding, step: int, batches: AnyBatches, tensor: int, gradients: Gradients | None) -> Place:
    """Return where ``finding`` was in ``step`` (from 1).

    Args:
        tensor: tensor-parallel processes.
        gradients: of that step, if they could be computed again.
    """
    micro_batch, note = finding.micro_batch, ""
    if gradients is not None:
        if finding.spike is None and np.isfinite(gradients.norms_AR).all():
            note = "; computed again, all gradients are finite, so a fault of the machine is likely"
        else:
            micro_batch = gradients.micro_batch()
            note = f", first in {gradients.parameter}" if gradients.parameter else ""
    dataset = batches.dataset_of(step - 1)
    if micro_batch is None:
        everything = np.concatenate(batches.rows(step - 1))
        return Place(None, everything, f" ({_rows_text(everything, dataset)}){note}")
    processes = batches.data_rank.size
    parts = batches.micro_batch_rows(step - 1)
    # With a token budget a process may repeat a micro-batch, which then counts for nothing.
    own = parts[(micro_batch.number * processes + micro_batch.data_rank) % len(parts)]
    rank = micro_batch.data_rank * tensor
    where = f" in micro-batch {micro_batch.number + 1} of {-(-len(parts) // processes)} of process {rank}"
    return Place(rank, own, f"{where} ({_rows_text(own, dataset)}){note}")


def _rows_text(rows: np.ndarray, dataset: Dataset) -> str:
    shown = ", ".join(str(row) for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"rows {shown}{more}: sesame inspect {dataset.path} --row {rows[0]}"
