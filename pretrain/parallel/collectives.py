"""The time of collectives, those of DeepSpeed and Megatron included.

Both call ``torch.distributed`` through its module or keep its functions in modules of their own, and neither has a
hook that says how long a collective took. So the functions are replaced there, for as long as a run lasts.
"""

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
import torch.distributed

from sesame.pretrain.parallel.deepspeed_api import communication_backend
from sesame.pretrain.step_timer import StepTimer

COLLECTIVES = (
    "all_reduce",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "reduce_scatter_single",
    "broadcast",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_single",
    "all_to_all",
    "all_to_all_single",
)
KEPT_BY_DEEPSPEED = ("all_gather_function", "reduce_scatter_function")
KEPT_BY_MEGATRON = ("dist_all_gather_func", "dist_reduce_scatter_func")


class TimedCollectives:
    """Measures collectives within a phase of ``timer`` as communication, until it is closed.

    On CUDA a collective lasts from the moment at which the computing stream could start it to the moment at which that
    stream goes on. What ZeRO 2 and 3 call in a stream of their own, beside computing, does not count; if computing has
    to wait for it in the end, that is part of the phase that waits.
    """

    def __init__(self, timer: StepTimer, *, knows_megatron: bool):
        self._timer = timer
        self._replaced: list[tuple[Any, str, Any]] = []
        for owner, name in _places(knows_megatron):
            function = getattr(owner, name, None)
            if callable(function):
                self._replaced.append((owner, name, function))
                setattr(owner, name, self._timed(function))

    def close(self) -> None:
        """Restore the functions."""
        while self._replaced:
            setattr(*self._replaced.pop())

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        timer = self._timer

        @functools.wraps(function)
        def collective(*arguments: Any, **named: Any) -> Any:
            if not timer.is_open:
                return function(*arguments, **named)
            with timer.phase("communication"):
                work = function(*arguments, **named)
            return _TimedWork(work, timer) if isinstance(work, torch.distributed.Work) else work

        return collective


class _TimedWork:
    """A collective under way; waiting for it is communication."""

    def __init__(self, work: Any, timer: StepTimer):
        self._work, self._timer = work, timer

    def wait(self, *arguments: Any) -> Any:
        if not self._timer.is_open:
            return self._work.wait(*arguments)
        with self._timer.phase("communication"):
            return self._work.wait(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


def _places(knows_megatron: bool) -> Iterator[tuple[Any, str]]:
    """Yield (owner, name) of every function that may be called for a collective."""
    for name in COLLECTIVES:
        yield torch.distributed, name
    for name in KEPT_BY_DEEPSPEED:
        yield communication_backend(), name
    for module in _megatron_modules() if knows_megatron else ():
        for name in KEPT_BY_MEGATRON:
            yield module, name


def _megatron_modules() -> tuple[ModuleType, ...]:
    from megatron.core.tensor_parallel import layers, mappings

    return layers, mappings
