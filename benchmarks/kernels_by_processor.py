"""Time each kernel that is chosen by device and number format against torch's, forward and backward.

    .venv/bin/python benchmarks/kernels_by_processor.py
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 .venv/bin/python benchmarks/kernels_by_processor.py

The second command limits a CPU to AVX2. One thread; milliseconds of processor time, which depends less on other load of
the machine than wall time; both kernels alternate, and the minimum of all rounds is shown. A ratio above 1: the
project's kernel is faster.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sesame.pretrain import precision
from sesame.pretrain.layers.attention import unfused_attention
from sesame.pretrain.layers.dropout import dropout
from sesame.pretrain.layers.gelu import gelu_tanh
from sesame.pretrain.layers.linear import Linear
from sesame.pretrain.layers.vocabulary import VocabularyProjection

TOKENS, HEADS, HEAD_WIDTH, WIDTH, VOCABULARY, PREDICTIONS = 2048, 4, 64, 256, 8192, 320
"""Of the demo's model and a batch of 32 sequences of 64 tokens."""
Kernel = Callable[[], Tensor]


def comparisons(number_format: torch.dtype) -> Iterator[tuple[str, Kernel, Kernel]]:
    """Yield (name, the project's kernel, torch's kernel)."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=number_format).requires_grad_()

    scale = HEAD_WIDTH**-0.5
    for length in (64, 128, 512):
        query, key, value = (random(TOKENS // length, HEADS, length, HEAD_WIDTH) for _ in range(3))
        mask = torch.zeros(TOKENS // length, 1, 1, length, dtype=number_format)
        for dropout_p in (0.0, 0.1):
            for title, added in (("", None), (", padded", mask)):
                arguments = (query, key, value, added)
                yield (
                    f"attention, {length} tokens{title}, dropout {dropout_p:g}",
                    partial(unfused_attention, *arguments, scale, dropout_p),
                    partial(F.scaled_dot_product_attention, *arguments, dropout_p, scale=scale),
                )
    hidden, labels = random(PREDICTIONS, WIDTH), torch.randint(0, VOCABULARY, (PREDICTIONS,))
    projection = VocabularyProjection(VOCABULARY, WIDTH).to(number_format)
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    yield (
        "projection and cross-entropy",
        lambda: projection(hidden, labels),
        lambda: F.cross_entropy(projection(hidden).float(), labels, reduction="sum"),
    )
    states = random(TOKENS, WIDTH)
    yield "dropout", lambda: dropout(states, 0.1), lambda: F.dropout(states, 0.1)
    inner = random(TOKENS, 4 * WIDTH)
    yield "tanh-GELU", lambda: gelu_tanh(inner), lambda: F.gelu(inner, approximate="tanh")
    layer = Linear(WIDTH, 4 * WIDTH).to(number_format)
    yield "linear layer", lambda: layer(states), lambda: F.linear(states, layer.weight, layer.bias)


def milliseconds(kernel: Kernel) -> float:
    """Return the processor time of one forward and backward."""
    begin = time.process_time()
    kernel().sum().backward()
    return 1000 * (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    chosen = precision.of_device(torch.device("cpu"))
    table = Table(title=f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, auto is {chosen}")
    for column in ("format", "kernel", "ours (ms)", "torch's (ms)", "ratio"):
        table.add_column(column, justify="left" if column in ("format", "kernel") else "right")
    for number_format in (torch.float32, torch.bfloat16):
        for name, *kernels in comparisons(number_format):
            times = [[milliseconds(kernel) for kernel in kernels] for _ in range(rounds + 1)]
            ours, torchs = (min(column) for column in zip(*times[1:], strict=True))
            title = str(number_format).removeprefix("torch.")
            table.add_row(title, name, f"{ours:.2f}", f"{torchs:.2f}", f"{torchs / ours:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
