"""Loops over bytes, words and rows, compiled by numba; functions of arrays that know nothing of files or settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba.core import config

from data_pipeline.compiled.cache import Loop


def compiled(function: Callable[..., Any], *, inline: bool = False) -> Any:
    """Return ``function`` compiled on its first call, with the machine code kept on disk (see ``cache.py``)."""
    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        return function
    loop = Loop(function, targetoptions={"nopython": True, "nogil": True, "boundscheck": None, "forceinline": inline})
    loop.enable_caching()
    return loop


inlined = partial(compiled, inline=True)
"""The same for what is called for every byte or word: it becomes part of the functions that call it, for a call with
several arrays takes longer than what is done there."""


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written. numba compiles a loop anew for arrays that differ in this, and arrays from files
    and from Ray cannot be written, while the same values made in this process can."""
    view = array.view()
    view.flags.writeable = False
    return view
