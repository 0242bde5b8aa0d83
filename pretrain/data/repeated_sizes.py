"""Batches whose matrix products have sizes that repeat from step to step.

oneDNN, which computes products in bf16 on a CPU, generates code for each new size: 1.4 to 8 ms for a product, and some
memory, where the product itself takes less than one. Rows of uneven length have a new number of tokens in each step, so
tokens that belong to no sequence and predictions that count for nothing are added up to a multiple, and attention pads
sequences to one of few lengths.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn

from sesame.pretrain.batch import IGNORED, Batch, Layout, LengthGroup
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.layers.experts import SparseFeedForward
from sesame.pretrain.layers.recurrent import ProjectedLSTM

MULTIPLES = {"T": 64, "U": 64, "P": 32}
"""Axis of a batch column -> the multiple that its length is rounded up to."""
PARTS_OF_A_POWER = 4
"""Padded lengths between a power of two and the next one; none is below ``SHORTEST``."""
SHORTEST = 16
WORTH_NO_PADDING = 4
"""So many sequences of the longest length, to which rows are filled up in every batch, are not padded."""


OTHER_LAYERS = (ProjectedLSTM, SparseFeedForward)
"""Layers that see more of a batch than single tokens, or tokens within their sequence."""


def sizes_for(model: nn.Module, precision: str, device: torch.device) -> Callable[[Batch], Batch]:
    """Return what a batch is changed by before the model computes it in a precision: rounding where it saves time."""
    is_generated = device.type == "cpu" and precision == "bf16"
    is_possible = not any(isinstance(part, OTHER_LAYERS) for part in model.modules())
    return with_repeated_sizes if is_generated and is_possible else lambda batch: batch


def with_repeated_sizes(batch: Batch) -> Batch:
    """Return the batch with rounded sizes, for a model without ``OTHER_LAYERS``; losses do not change."""
    has_one_size = bool(batch.layout.dummies)  # ``data/token_budget.py``
    if has_one_size or not batch.layout.groups:
        return batch
    counts = {name: len(column) for name, column in batch.columns.items()}
    columns = {name: _lengthened(name, column) for name, column in batch.columns.items()}
    layouts = _regrouped([batch.layout] if batch.targets is None else [batch.layout, batch.targets])
    targets = None if batch.targets is None else layouts[-1]
    return replace(batch, layout=layouts[0], targets=targets, columns=columns, counts=counts)


def _lengthened(name: str, column: Tensor) -> Tensor:
    """Add entries that count for nothing: token 0, predictions at the first token, ``IGNORED`` labels."""
    multiple = MULTIPLES.get(COLUMNS[name].axis, 1) if name in COLUMNS else 1
    if not (extra := -len(column) % multiple):
        return column
    return torch.cat([column, column.new_full((extra,), IGNORED if name.endswith("labels") else 0)])


def padded_length(length: int) -> int:
    """Return the next padded length: 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, ..."""
    step = max(SHORTEST, (1 << (length - 1).bit_length()) // 2 // PARTS_OF_A_POWER)
    return -(-max(length, 1) // step) * step


def _regrouped(layouts: list[Layout]) -> list[Layout]:
    """Return the layouts of the same sequences, each group of which has one padded length."""
    lengths = [[length for group in layout.groups for length in group.lengths] for layout in layouts]
    widths = [[_width(length, each) for length in each] for each in lengths]
    regrouped = []
    for layout, own, own_widths in zip(layouts, lengths, widths, strict=True):
        groups = tuple(_groups(own, own_widths, list(zip(*widths, strict=True))))
        longest = max(layout.longest, *(group.width for group in groups))
        regrouped.append(replace(layout, groups=groups, longest=longest))
    return regrouped


def _width(length: int, lengths: list[int]) -> int:
    is_filled = length == max(lengths) and lengths.count(length) >= WORTH_NO_PADDING
    return length if is_filled else padded_length(length)


def _groups(lengths: list[int], widths: list[int], keys: list[tuple[int, ...]]) -> Iterator[LengthGroup]:
    start = 0
    for _, numbers in groupby(range(len(lengths)), keys.__getitem__):
        members = list(numbers)
        own = tuple(lengths[number] for number in members)
        yield LengthGroup(start, start + sum(own), own, widths[members[0]])
        start += sum(own)
