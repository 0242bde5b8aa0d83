"""Sums of gradients and the update of ZeRO stage 1 in bf16, on flat tensors instead of parameter by parameter.

DeepSpeed's bf16 class keeps the weights, their fp32 copies and the fp32 sums of gradients of a parameter group in one
flat tensor each, but adds, measures and clips gradients one parameter at a time and waits for the device to compare the
norm with the threshold. On one H100 that was a tenth of BERT-large's step of two micro-batches, and as much idle time.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SMALL_ENTRIES = 2**18
"""Up to this size parameters are handled together; the kernel for many tensors has a third of the bandwidth of the one
for a single tensor, which larger ones get (H100)."""

ROW = 4096
"""Entries whose squares are summed at a time: over five million at once, fp32 loses 1.5e-4 of the norm on a CPU."""


class Range(NamedTuple):
    """Neighbouring parameters of a group."""

    parameters: list[nn.Parameter]
    sums: list[Tensor]
    """fp32 sums of their gradients, in their shapes."""
    flat_sums: Tensor
    """The same as one flat tensor."""


class FlatUpdate:
    """Replaces methods of DeepSpeed's ``BF16_Optimizer`` where every process has whole layers and all experts."""

    def __init__(self, wrapper: Any, clipping: float):
        """
        Args:
            wrapper: the ``BF16_Optimizer``.
            clipping: largest norm of all gradients; 0: no clipping.
        """
        self.wrapper, self.clipping = wrapper, clipping
        self.norm: Tensor | None = None
        """Norm of all gradients in the last step before clipping, on the device; not finite if a gradient is not."""
        self.has_sums = False
        self.ranges = [
            part
            for parameters, sums, flat in zip(
                wrapper.bf16_groups,
                wrapper.fp32_groups_gradients,
                wrapper.fp32_groups_actual_gradients_flat,
                strict=True,
            )
            for part in _ranges(parameters, sums, flat)
        ]
        most = max((len(part.flat_sums) for part in self.ranges if len(part.parameters) > 1), default=0)
        self.scratch = torch.empty(most, dtype=torch.bfloat16, device=wrapper.fp32_groups_gradients_flat[0].device)
        for parameters, sums in zip(wrapper.bf16_groups, wrapper.fp32_groups_gradients, strict=True):
            for parameter, total in zip(parameters, sums, strict=True):
                # DeepSpeed sets it in the method that is replaced, and reads it to return whole gradients.
                parameter._hp_grad = total
        wrapper.update_hp_grads = self.add_gradients
        wrapper.clear_hp_grads = self.forget_gradients
        wrapper.step = self.step

    @torch.no_grad()
    def add_gradients(self, clear_lp_grads: bool = False) -> None:
        """Add the gradients of a micro-batch to the fp32 sums, and release them."""
        for part in self.ranges:
            add = self._add if self.has_sums else _set
            add(part)
            for parameter in part.parameters:
                # Not zeros, to which the next backward pass would add.
                parameter.grad = None
        if not self.has_sums:
            self.wrapper.fp32_groups_has_gradients = [[True] * len(group) for group in self.wrapper.bf16_groups]
        self.has_sums = True

    def forget_gradients(self) -> None:
        """Let the next gradients replace the sums."""
        self.has_sums = False

    @torch.no_grad()
    def step(self) -> None:
        """Clip the gradients and update the fp32 weights and their bf16 copies, without waiting for the device."""
        wrapper = self.wrapper
        sums = wrapper.fp32_groups_actual_gradients_flat
        norm = self.norm = wrapper._global_grad_norm = norm_of(sums)
        if self.clipping:
            factor = (self.clipping / (norm + 1e-6)).clamp(max=1.0)
            for flat in sums:
                flat.mul_(factor)
        partitions = wrapper.fp32_groups_flat_partition, wrapper.fp32_groups_gradient_flat_partition
        for weights, gradients in zip(*partitions, strict=True):
            weights.grad = gradients
        wrapper.optimizer.step()
        wrapper._lazy_init_hp_params_optimizer_state()
        wrapper.update_lp_params()
        self.forget_gradients()

    def _add(self, part: Range) -> None:
        used = _with_gradients(part)
        if len(used) == len(part.parameters) > 1:
            flat = self.scratch[: len(part.flat_sums)]
            copy_all(_views(flat, part.sums), [gradient for _, gradient in used])
            part.flat_sums.add_(flat)
        else:
            for total, gradient in used:
                total.add_(gradient)


def norm_of(flats: Iterable[Tensor]) -> Tensor:
    """Return the norm of all entries of flat tensors."""
    norms = []
    for flat in flats:
        whole = len(flat) // ROW * ROW
        rows, rest = flat[:whole].view(-1, ROW), flat[whole:]
        norms += [torch.linalg.vector_norm(rows, dim=1), torch.linalg.vector_norm(rest)[None]]
    return torch.linalg.vector_norm(torch.cat(norms))


def _set(part: Range) -> None:
    used = _with_gradients(part)
    if len(used) < len(part.parameters):
        part.flat_sums.zero_()
    if len(used) == 1:
        used[0][0].copy_(used[0][1])
    elif used:
        copy_all([total for total, _ in used], [gradient for _, gradient in used])


def _with_gradients(part: Range) -> list[tuple[Tensor, Tensor]]:
    """Return (sum, gradient) of the parameters that the micro-batch used."""
    pairs = zip(part.sums, part.parameters, strict=True)
    return [(total, parameter.grad) for total, parameter in pairs if parameter.grad is not None]


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source to its target; on a GPU by one kernel for all, which converts bf16 and fp32."""
    # Not exported, but what torch's own optimizers use.
    torch._foreach_copy_(list(targets), list(sources))  # pyright: ignore[reportPrivateImportUsage]


def _ranges(parameters: list[nn.Parameter], sums: list[Tensor], flat: Tensor) -> Iterator[Range]:
    """Divide a group into large parameters and ranges of neighbouring small ones."""
    start, sizes = 0, [parameter.numel() for parameter in parameters]
    shaped = [total.view_as(parameter) for total, parameter in zip(sums, parameters, strict=True)]
    for is_small, numbers in itertools.groupby(range(len(parameters)), lambda number: sizes[number] <= SMALL_ENTRIES):
        neighbours = list(numbers)
        for chosen in [neighbours] if is_small else [[number] for number in neighbours]:
            entries = sum(sizes[number] for number in chosen)
            flat_sums = flat[start : start + entries]
            yield Range([parameters[n] for n in chosen], [shaped[n] for n in chosen], flat_sums)
            start += entries


def _views(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return the parts of ``flat`` in the shapes of ``like``."""
    return [part.view_as(each) for part, each in zip(flat.split([each.numel() for each in like]), like, strict=True)]
