"""Activation memory of a forward and backward pass, counted by running the model on tensors without values.

Nothing is assumed about a layer: every tensor that the model's own code makes is counted from its creation to its
release, as an allocator would, so the count stays right when a layer changes.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sesame.pretrain.batch import Batch
from sesame.pretrain.initialization import materialise
from sesame.pretrain.learner import Learner
from sesame.pretrain.parallel.recompute import recompute_parts
from sesame.pretrain.planning.split import Split


class Pass(NamedTuple):
    """A forward and backward pass of one process: its largest memory, and what it moves. All in bytes."""

    released_early: float
    """Until the last weights get their gradients, if each gradient is released at once."""
    released_late: float
    """While the last ``LAST`` weights get theirs."""
    kept_early: float
    """Until the last weights get their gradients, if gradients are kept."""
    kept_late: float
    """While the last ``LAST`` weights get theirs."""
    moved: float
    """Read and written by operations that are not matrix products."""
    evaluated: float
    """Entries of the results of functions that take longer than their bytes do, by their weight in ``FUNCTIONS``."""
    operations: float
    """How many operations there are, views not counted."""
    flops: float
    """Floating-point operations of matrix products, those on padding too."""
    fp8_flops: float
    """Of these, the operations of products in fp8."""
    operands: float
    """Read and written by matrix products."""
    product_shapes: float
    """How many different shapes of matrix products there are; one of many matrices at once counts as a share."""
    reduced: float
    """Summed over the tensor-parallel processes."""
    exchanged: float
    """Sent to the processes with other experts."""

    @property
    def released(self) -> float:
        """If the gradient of each weight is released as soon as it is complete."""
        return max(self.released_early, self.released_late)

    @property
    def kept(self) -> float:
        """If all gradients of the pass are kept."""
        return max(self.kept_early, self.kept_late)


LAST = 8
"""Weights that get their gradients last, such as the embedding's. The largest of activations, which shrink in the
backward pass, and gradients, which grow, is at one of the two ends, and each end is linear in the number of layers."""


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors made within it, until each is released."""

    def __init__(self, existing: Iterator[Tensor]):
        """
        Args:
            existing: tensors that are not counted.
        """
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.now = 0.0
        self.kept_gradients = 0.0
        self.is_late = False
        self.peaks = [0.0] * 4
        self.moved = self.evaluated = self.operations = self.flops = self.fp8_flops = self.operands = 0.0
        self.product_shapes: dict[tuple[Any, ...], float] = {}
        self._existing = list(existing)
        for tensor in self._existing:
            self._sizes[tensor.untyped_storage()._cdata] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = DATA_DEPENDENT.get(func)
        result = replaced(*args) if replaced else func(*args, **(kwargs or {}))
        outputs = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        for tensor in outputs:
            self._count(tensor)
        # Without values, each question for a tensor's device is an operation as well.
        if outputs and not func.is_view:
            inputs = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            self.operations += 1
            size = sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
            if flops := PRODUCTS.get(func.overloadpacket):
                count = flops(*args, **(kwargs or {}), out_val=result)
                self.flops += count
                self.fp8_flops += count * (func.overloadpacket is aten._scaled_mm)
                self.operands += size
                shape = func, *((each.shape, each.stride()) for each in inputs)
                self.product_shapes[shape] = 1.0 if func.overloadpacket in PLAIN_PRODUCTS else SHARE_OF_MANY
            else:
                self.moved += size
                self.evaluated += outputs[0].numel() * _evaluations(func, kwargs or {})
        return result

    def keep(self, gradient_bytes: int) -> None:
        """Note that a gradient is complete, which the caller releases."""
        self.kept_gradients += gradient_bytes
        self._update()

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        weakref.finalize(storage, self._release, storage._cdata)
        self._update()

    def _release(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def _update(self) -> None:
        for first, value in ((0, self.now), (2, self.now + self.kept_gradients)):
            index = first + self.is_late
            self.peaks[index] = max(self.peaks[index], value)


def _unique(states: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """All entries differ: the most that there can be."""
    return torch.empty_like(states), torch.empty_like(states), states.new_empty(0)


def _nonzero(states: Tensor) -> Tensor:
    """The mask of tokens that an expert takes: it takes all of them."""
    return states.new_empty(states.numel(), states.dim(), dtype=torch.int64)


def _evaluations(operation: Any, options: Mapping[str, Any]) -> float:
    """Return the exponentials that take as long as this operation does for an entry."""
    return TANH_GELU if options.get("approximate") == "tanh" else FUNCTIONS.get(operation.overloadpacket, 0.0)


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Two products."""
    return flop_counter.sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward_flops(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> int:
    """Five products: the scores are computed again."""
    return _attention_flops(query, key, value) * 5 // 2


aten = torch.ops.aten
PRODUCTS: dict[Any, Callable[..., int]] = {
    **{
        getattr(aten, name): flop_counter.flop_registry[getattr(aten, name)]
        for name in ("mm", "addmm", "_scaled_mm", "bmm", "baddbmm", "convolution", "convolution_backward")
    },
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
"""Operations whose time is that of their arithmetic -> floating-point operations by arguments."""
EXPONENTIALS = (
    *("exp", "exp_", "tanh", "erf", "sigmoid", "silu", "silu_backward", "gelu", "gelu_backward"),
    *("_softmax", "_safe_softmax", "_log_softmax", "logsumexp"),
)
FUNCTIONS = {getattr(aten, name): 1.0 for name in EXPONENTIALS} | {
    getattr(aten, name): 5.0 for name in ("bernoulli", "bernoulli_", "native_dropout")
}
"""Operations that evaluate an exponential, or draw a random number, for each entry -> how many exponentials' time."""
TANH_GELU = 3.0
"""The same of GELU by its approximation, which CPUs compute in several passes."""
PLAIN_PRODUCTS = {aten.mm, aten.addmm}
"""Of two matrices, not of many at once."""
SHARE_OF_MANY = 1 / 3
"""Of the code of a product of two matrices: what oneDNN takes to generate that of many small ones, as in attention."""
DATA_DEPENDENT: dict[Any, Any] = {
    torch.ops.aten._unique2.default: _unique,
    torch.ops.aten.nonzero.default: _nonzero,
}
"""Operations whose result depends on values, which there are none of -> the largest result."""


@contextmanager
def without_values() -> Iterator[None]:
    """Make tensors that have a shape, a number format and no memory."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def trace(learner: Learner, batch: Batch, split: Split, dtype: torch.dtype, *, recompute: str) -> Pass:
    """Run a forward and backward pass; call it within :func:`without_values`.

    Args:
        learner: one process's part of the model, on the meta device.
        split: by which it was made; what its layers send is counted there.
        dtype: of weights and activations.
        recompute: as ``parallel.recompute``.
    """
    materialise(learner, lambda name, parameter: torch.zeros(parameter.shape, dtype=dtype))
    for part in list(learner.modules()):
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    recompute_parts(learner, recompute)
    parameters = list(learner.parameters())
    live = LiveTensors(iter([*parameters, *learner.buffers(), *batch.columns.values()]))
    completed = 0

    def complete(parameter: nn.Parameter) -> None:
        nonlocal completed
        assert parameter.grad is not None
        live.keep(parameter.grad.untyped_storage().nbytes())
        parameter.grad = None
        completed += 1
        live.is_late = completed >= len(parameters) - LAST

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(complete)
    with live:
        total, _ = learner(batch)
        total.backward()
    return Pass(
        *live.peaks,
        moved=live.moved,
        evaluated=live.evaluated,
        operations=live.operations,
        flops=live.flops,
        fp8_flops=live.fp8_flops,
        operands=live.operands,
        product_shapes=sum(live.product_shapes.values()),
        reduced=split.reduced,
        exchanged=split.exchanged,
    )


def extrapolate(low: Pass, high: Pass, steps: float) -> Pass:
    """Return ``low`` + ``steps`` x (``high`` - ``low``)."""
    return Pass(*(first + steps * (second - first) for first, second in zip(low, high, strict=True)))
