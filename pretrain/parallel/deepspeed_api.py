"""All that is used of DeepSpeed, imported after its accelerator is chosen, and two savings in its startup.

DeepSpeed reads ``DS_ACCELERATOR`` once, when it is imported. Without it, it guesses, and warns where it finds no GPU. A
test fails for any other file that imports DeepSpeed.
"""

import contextlib
import gc
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

import deepspeed
from deepspeed.moe.layer import MoE
from deepspeed.moe.sharded_moe import _AllToAll as AllToAll
from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder
from deepspeed.runtime import compiler
from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from deepspeed.utils import groups, logger, safe_get_full_grad, set_z3_leaf_modules

__all__ = ["AllToAll", "MoE", "deepspeed", "groups", "safe_get_full_grad", "set_z3_leaf_modules"]


def configure_process() -> None:
    """Log errors only, and reduce gradients without DeepSpeed's shared-memory extension: it is compiled at the first
    start, and a machine may have no compiler."""
    logger.setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False


@contextlib.contextmanager
def quick_startup() -> Iterator[None]:
    """Within ``deepspeed.initialize``: skip what takes a second and print nothing."""
    import_muon_uncompiled()
    # It collects garbage and prints a memory report for each parameter group; a million objects exist before.
    gc.freeze()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        gc.unfreeze()


def import_muon_uncompiled() -> None:
    """Import DeepSpeed's Muon, with which it compares each optimizer, without ``torch.compile``.

    Muon is not offered here, and its decorators load torch's compiler back end, which takes more than a second.
    """
    compile_, compiler.compile = compiler.compile, lambda: lambda function: function
    try:
        with contextlib.suppress(ImportError):
            import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_


def communication_backend() -> Any:
    """Return the object by which DeepSpeed calls torch.distributed; None before that is initialized."""
    return deepspeed.comm.comm.cdb


def forget_overflown_gradients(wrapper: Any) -> None:
    """Let the next step of ZeRO stage 1 or 2 with offload begin with no gradients, if the last one overflowed.

    DeepSpeed 0.19.8 keeps that step's sums in its offload branch, and adds the gradients of all later steps to them.
    """
    if wrapper.overflow:
        wrapper.averaged_gradients.update(dict.fromkeys(wrapper.averaged_gradients))


def clear_module_caches() -> None:
    """Drop the references by which ZeRO stage 3 keeps a model in memory: a global stack of modules, cached methods."""
    FWD_MODULE_STACK.clear()
    for method in vars(PartitionedParameterCoordinator).values():
        for cell in getattr(method, "__closure__", None) or ():
            getattr(cell.cell_contents, "cache_clear", lambda: None)()
