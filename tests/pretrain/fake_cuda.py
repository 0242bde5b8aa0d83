"""Forward and backward passes of a CUDA device without one: fake tensors, host synchronisation as an error, launches.

torch's FakeTensorMode raises where values are needed (``.item()``, ``nonzero``, boolean indices, ``unique``) and where
devices differ. ``Launches`` also raises at copies that the host waits for. torch's own backward engine asks the driver
for streams, so ``backward`` calls the nodes of the graph itself, in the same order of dependencies.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise

aten = torch.ops.aten

NO_LAUNCH = {
    "alias",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "record_stream",
    "_unsafe_view",
}
"""Operations beside views that start no kernel."""


class HostWaits(AssertionError):
    """The host would wait for the device."""


class Launches(TorchDispatchMode):
    """Counts operations that start a kernel on the device; each counts as one launch.

    Not counted are copies between host and device, further kernels within an operation (two to five in the backward
    passes of norms, embeddings and attention, in sorting, and in sums of products that cuBLAS splits), and kernels that
    torch.compile would merge.
    """

    def __init__(self, *, raises: bool = True) -> None:
        """
        Args:
            raises: otherwise only count what the host would wait for.
        """
        super().__init__()
        self.raises = raises
        self.counts: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name == "_local_scalar_dense" and inputs[0].device.type == "cpu":
            # A number of the host, which is there at once; fake tensors have none.
            return 1.0
        if not self.raises and name in AS_MANY_AS_POSSIBLE:
            self.waits[name] += any(tensor.device.type == "cuda" for tensor in inputs)
            result = AS_MANY_AS_POSSIBLE[name](*args)
        else:
            result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        places = {tensor.device.type for tensor in (*inputs, *outputs)}
        try:
            self._check(name, inputs, outputs, args, kwargs)
        except HostWaits:
            if self.raises:
                raise
            self.waits[name] += 1
        is_computed = func.namespace == "aten" and not func.is_view and name not in NO_LAUNCH
        if is_computed and places == {"cuda"}:
            self.counts[name] += 1
        return result

    def _check(self, name: str, inputs: list[Tensor], outputs: list[Tensor], args: Any, kwargs: dict[str, Any]) -> None:
        on_host = [tensor for tensor in inputs if tensor.device.type == "cpu" and tensor.dim()]
        is_on_device = any(tensor.device.type == "cuda" for tensor in inputs)
        makes_host = any(tensor.device.type == "cpu" for tensor in outputs)
        if is_on_device and makes_host:
            raise HostWaits(f"{name} copies from the device")
        if on_host and any(tensor.device.type == "cuda" for tensor in outputs):
            runs_ahead = kwargs.get("non_blocking", False) or (name == "copy_" and args[2:] == (True,))
            if name not in ("_to_copy", "copy_") or not runs_ahead:
                raise HostWaits(f"{name} waits until a tensor of the host is on the device")
        if name == "segment_reduce" and not kwargs.get("unsafe", False) and is_on_device:
            raise HostWaits("segment_reduce reads the lengths to check them")

    @property
    def total(self) -> int:
        return sum(self.counts.values())


AS_MANY_AS_POSSIBLE: dict[str, Any] = {
    "nonzero": lambda states: states.new_empty(states.numel(), states.dim(), dtype=torch.int64),
    "_unique2": lambda states, *_: (torch.empty_like(states), torch.empty_like(states), states.new_empty(0)),
    "_local_scalar_dense": lambda states: 64,
    "repeat_interleave": lambda repeats, *_: torch.empty_like(repeats),
}
"""Operations whose result depends on values -> a result, where waiting is only counted."""


@contextmanager
def fake_cuda(*, raises: bool = True) -> Iterator[Launches]:
    """Let tensors on "cuda" have a shape and a number format only, and yield the counter."""
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        # There is no host memory to pin either; whether a copy may run ahead of the host stands in its arguments.
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: tensor))
        stack.enter_context(patch.object(F, "scaled_dot_product_attention", _fused_attention))
        yield stack.enter_context(Launches(raises=raises))


def random_batch(reads: tuple[str, ...], lengths: Sequence[int], vocabulary: int) -> Batch:
    """Return sequences of random tokens with 15 % predictions, targets of a third, and pair labels."""
    generator, lengths_B = np.random.default_rng(0), np.array(lengths)
    predicted, targets = np.maximum(1, lengths_B * 3 // 20), lengths_B // 3

    def tokens(counts: np.ndarray) -> Ragged:
        return Ragged(generator.integers(0, vocabulary, counts.sum()), boundaries(counts))

    columns: dict[str, Any] = {
        "tokens": tokens(lengths_B),
        "first_segment_length": lengths_B // 2,
        "mask_positions": Ragged(np.concatenate([np.arange(count) for count in predicted]), boundaries(predicted)),
        "mask_labels": tokens(predicted),
        "target_tokens": tokens(targets),
        "pair_labels": generator.integers(0, 2, len(lengths_B)),
    }
    averaged = [name for name, column in COLUMNS.items() if column.is_averaged_over]
    return assemble(columns, reads, dict.fromkeys(averaged, float(lengths_B.sum())))


def place(module: nn.Module, dtype: torch.dtype) -> None:
    """Give a module of the meta device parameters and buffers on the fake device."""
    materialise(module, lambda name, parameter: torch.empty(parameter.shape, dtype=dtype, device="cuda"))
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Call the operator that torch chooses on a device; it cannot ask one that is not there."""
    if attn_mask is None and query.dtype in (torch.bfloat16, torch.float16):
        return aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
    if attn_mask is not None:
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    arguments = query, key, value, attn_mask, True, dropout_p, is_causal
    return aten._scaled_dot_product_efficient_attention(*arguments, scale=scale)[0]


def backward(loss: Tensor) -> dict[int, Tensor]:
    """Run the backward pass node by node and return gradients by ``id`` of the leaf, which is not changed."""
    root: Any = loss.grad_fn
    waits_for: Counter[Any] = Counter()
    seen, pending = {root}, [root]
    while pending:
        for node, _ in pending.pop().next_functions:
            if node is not None:
                waits_for[node] += 1
                if node not in seen:
                    seen.add(node)
                    pending.append(node)
    received: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    received[root][0] = torch.ones_like(loss)
    gradients: dict[int, Tensor] = {}
    ready = [root]
    while ready:
        node = ready.pop()
        results = _call(node, received.pop(node, {}), gradients)
        for (target, number), result in zip(node.next_functions, results, strict=False):
            if target is None:
                continue
            if result is not None:
                fitted, before = _fit(result, target._input_metadata[number]), received[target].get(number)
                received[target][number] = fitted if before is None else before + fitted
            waits_for[target] -= 1
            if not waits_for[target]:
                ready.append(target)
    return gradients


def _fit(gradient: Tensor, metadata: Any) -> Tensor:
    """Sum over broadcast dimensions and convert, as torch's engine does between two nodes."""
    assert gradient.device == metadata.device
    if gradient.shape != metadata.shape:
        gradient = gradient.sum_to_size(metadata.shape)
    return gradient if gradient.dtype == metadata.dtype else gradient.to(metadata.dtype)


def _call(node: Any, received: dict[int, Tensor], gradients: dict[int, Tensor]) -> tuple[Tensor | None, ...]:
    if hasattr(node, "variable"):
        (gradient,) = received.values()
        assert gradient.shape == node.variable.shape and gradient.device == node.variable.device
        gradients[id(node.variable)] = gradient
        return ()
    if not received:
        return (None,) * len(node.next_functions)
    arguments = [received.get(number) for number in range(len(node._input_metadata))]
    with torch.no_grad():
        is_function = isinstance(node, torch.autograd.function.BackwardCFunction)
        returned: Any = node.apply(*arguments) if is_function else node(*arguments)
    results = returned if isinstance(returned, tuple) else (returned,)
    if len(results) == len(node.next_functions):
        return results
    # A function has a result for each argument, sometimes more, and an edge for each tensor among them.
    wanted = iter([result for result, needed in zip(results, node.needs_input_grad, strict=False) if needed])
    return tuple(None if target is None else next(wanted) for target, _ in node.next_functions)
