"""Processor time of a training step on a CPU by kind of operation, of ours and of transformers' step.

    python benchmarks/step_profile.py DATASET
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/step_profile.py DATASET

The second command limits a CPU to AVX2. Steps are those of ``step_against_transformers.py``, in one thread. Each
operation of torch is timed by the thread's clock, which does not advance while other processes have the processor;
what the operations do not explain of steps that were not timed one by one is Python and torch's own dispatch.

Products are compared with the fastest square product of this processor, and with the same shapes computed again one
after another, where their operands are in the cache more often.
"""

import argparse
import multiprocessing
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from step_against_transformers import CPU, Side, Step, Task, ours, theirs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.compiled import cross_entropy, dropout, gelu
from sesame.pretrain.layers import random_bits
from sesame.pretrain.precision import of_device

LAYERS, ATTENTION = "products of layers and vocabulary", "products of attention"
GROUPS = {
    LAYERS: "mm addmm _linear_pointwise",
    ATTENTION: "bmm baddbmm _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "activation": "gelu gelu_backward tanh tanh_backward",
    "dropout": "random_ ge_ mul native_dropout native_dropout_backward bernoulli_ div_",
    "layer norm": "native_layer_norm native_layer_norm_backward",
    "softmax": "_softmax _softmax_backward_data",
    "residual sums and sums of gradients": "add add_",
    "sums for biases": "sum",
    "copies and conversions": "copy_ clone _to_copy cat index_copy_ index_select zero_ fill_ new_zeros index",
    "embeddings": "embedding embedding_dense_backward index_put_ _index_put_impl_",
    "cross-entropy": "_log_softmax exp_ gather scatter_add_ scatter_ nll_loss_forward nll_loss_backward "
    "_log_softmax_backward_data",
    "clipping and update": "_fused_adamw_ _foreach_norm linalg_vector_norm _foreach_mul_ _foreach_copy_ mul_",
}
"""Kind of operation -> names in torch's table of operators; others are "other operations"."""
KIND_OF = {name: kind for kind, names in GROUPS.items() for name in names.split()}
SQUARES = (512, 768, 1024, 2048)
"""Sizes among which the fastest product is looked for."""
LOOPS = {
    (cross_entropy, "cross_entropy"): "cross-entropy",
    (dropout, "drop"): "dropout",
    (dropout, "scale_kept"): "dropout",
    (random_bits, "draw_pairs"): "dropout",
    (gelu, "gelu_tanh"): "activation",
    (gelu, "gelu_tanh_backward"): "activation",
}
"""Compiled loops, which torch does not know -> kind of operation."""


class Product(NamedTuple):
    """A product, to be computed again."""

    operator: Any
    arguments: tuple[Any, ...]
    """With (shape, strides) in place of tensors."""


class OperationTimer(TorchDispatchMode):
    """Adds up the thread's processor time of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.products: list[Product] = []
        self.is_on = False

    def __enter__(self) -> Any:
        self.is_on = True
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        self.is_on = False
        super().__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = KIND_OF.get(func.overloadpacket.__name__, "other operations")
        result = self.timed(kind, func)(*args, **(kwargs or {}))
        if kind in (LAYERS, ATTENTION):
            self.flops[kind] += _flops(func, args, kwargs or {}, result)
        if kind == LAYERS:
            shapes = (((*arg.shape,), arg.stride()) if isinstance(arg, torch.Tensor) else arg for arg in args)
            self.products.append(Product(func, tuple(shapes)))
        return result

    def timed(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function``, whose time is counted while operations are."""

        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.thread_time()
            result = function(*args, **kwargs)
            if self.is_on:
                self.seconds[kind] += time.thread_time() - begin
                self.calls[kind] += 1
            return result

        return call

    def time_loops(self) -> None:
        """Replace the loops by timed ones for the rest of the process."""
        for (module, name), kind in LOOPS.items():
            setattr(module, name, self.timed(kind, getattr(module, name)))


def _flops(func: Any, args: Any, kwargs: Any, result: torch.Tensor) -> int:
    if count := flop_registry.get(func.overloadpacket):
        return count(*args, **kwargs, out_val=result)
    # Linear layer: states, weight, bias.
    return 2 * args[0].numel() * len(args[1])


def fastest(dtype: torch.dtype) -> float:
    """Return the most floating-point operations a second of a square product."""
    rates = []
    for size in SQUARES:
        left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
        rates.append(2 * size**3 / min(_seconds(lambda left=left, right=right: left @ right) for _ in range(12)))
    return max(rates)


def alone(products: list[Product], dtype: torch.dtype) -> float:
    """Return the seconds of the products, each computed again and again with the same operands."""
    best: dict[str, float] = {}
    for product in products:
        if str(product) not in best:
            operands = [_operand(each, dtype) for each in product.arguments]
            best[str(product)] = min(_seconds(lambda p=product, o=operands: p.operator(*o)) for _ in range(6))
    return sum(best[str(product)] for product in products)


def _operand(given: Any, dtype: torch.dtype) -> Any:
    if isinstance(given, tuple):
        return torch.empty_strided(*given, dtype=dtype).normal_()
    return given


def _seconds(call: Callable[[], object]) -> float:
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def profile(name: str, side: Side, task: Task) -> None:
    """In a process of its own: print the table of one side."""
    if side.keeps_memory:
        keep_freed_memory(CPU)
    steps: list[Step] = side.make(task, *side.arguments)
    torch.set_num_threads(1)
    for _, step in steps[: task.warm_up]:
        step()
    timer, plain, tokens = OperationTimer(), [], 0
    timer.time_loops()
    # Steps that are timed whole and steps that are timed by operation take turns, on the same batches.
    for count, step in steps[task.warm_up :]:
        plain.append(_seconds(step) / count)
        with timer:
            step()
        tokens += count
    dtype = torch.bfloat16 if task.precision == "bf16" else torch.float32
    peak, repeated = fastest(dtype), alone(timer.products, dtype)
    table = Table(title=f"{name}, {task.precision}, {torch.backends.cpu.get_cpu_capability()}, us for a real token")
    for column in ("operations", "us", "share", "calls in a step", "GFLOP/s", "us at the fastest product's speed"):
        table.add_column(column, justify="left" if column == "operations" else "right")
    whole = 1e6 * statistics.median(plain)
    for row in _rows(timer, tokens, task.steps, whole, peak):
        table.add_row(*row)
    table.add_row("whole step", f"{whole:.1f}", "100 %")
    Console(width=140).print(table)
    print(f"fastest square product: {peak / 1e9:,.0f} GFLOP/s; products of layers and vocabulary alone, one after")
    print(f"another: {1e6 * repeated / tokens:.1f} us for a token", flush=True)


def _rows(timer: OperationTimer, tokens: int, steps: int, whole: float, peak: float) -> Iterator[tuple[str, ...]]:
    explained = 0.0
    for kind in (*GROUPS, "other operations"):
        if not timer.calls[kind]:
            continue
        spent = 1e6 * timer.seconds[kind] / tokens
        explained += spent
        row = kind, f"{spent:.1f}", f"{spent / whole:.1%}", f"{timer.calls[kind] / steps:.0f}"
        flops = timer.flops[kind]
        rate = (f"{flops / timer.seconds[kind] / 1e9:,.0f}", f"{1e6 * flops / peak / tokens:.1f}") if flops else ()
        yield *row, *rate
    yield "Python and dispatch", f"{whole - explained:.1f}", f"{1 - explained / whole:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=24, help="steps that are not timed")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=of_device(CPU).name)
    arguments = parser.parse_args()
    sides = {"sesame": Side(ours), "transformers, rows of similar lengths": Side(theirs, ("eager", True))}
    for path in arguments.datasets:
        for name, side in sides.items():
            task = Task(path, 1, arguments.steps, arguments.warm_up, "processor", arguments.precision)
            process = multiprocessing.get_context("spawn").Process(target=profile, args=(name, side, task))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
