"""Warnings of libraries about their own code, which each process of a run would print."""

import warnings
from typing import NamedTuple


class Ignored(NamedTuple):
    """Warnings of one category that one library raises."""

    category: type[Warning]
    module: str
    """Regular expression of the module that warns, from its beginning."""


IGNORED = (
    # DeepSpeed calls functions of torch under names that will go, and its own.
    Ignored(FutureWarning, r"torch\.distributed\."),
    Ignored(FutureWarning, r"deepspeed\."),
    Ignored(DeprecationWarning, r"(deepspeed|torch|megatron)\."),
    # Apex and Transformer Engine are optional; the advice on CUDA_DEVICE_MAX_CONNECTIONS is for older GPUs.
    Ignored(UserWarning, r"megatron\."),
)


def ignore_library_warnings() -> None:
    """Ignore these warnings in this process, and no error."""
    for each in IGNORED:
        warnings.filterwarnings("ignore", category=each.category, module=each.module)
