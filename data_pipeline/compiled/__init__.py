"""Loops over bytes, words and rows, compiled by numba: functions of arrays, without files or settings."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba.core import config

from sesame.data_pipeline.compiled.cache import Loop


def compiled(function: Callable[..., Any], *, inline: bool = False, **options: Any) -> Any:
    """Return ``function`` compiled on its first call, with the machine code cached on disk (see ``cache.py``)."""
    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        return function
    loop = Loop(
        function, targetoptions={"nopython": True, "nogil": True, "boundscheck": None, "forceinline": inline, **options}
    )
    loop.enable_caching()
    return loop


inlined = partial(compiled, inline=True)
"""The same, inlined into its callers: for functions that are called for every byte or word, where a call with several
arrays takes longer than the function itself."""


as_written = partial(compiled, inline=True, error_model="numpy", fastmath={"contract", "nsz"})
"""For functions of numbers: divisions by 0 give inf instead of an exception, without which nothing is vectorized."""
floating = partial(compiled, inline=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
"""The same for loops whose sums may be in another order."""


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view. numba compiles a loop again for arrays that differ in this; arrays from files and from
    Ray are read-only, arrays of this process are not."""
    view = array.view()
    view.flags.writeable = False
    return view
