"""Loops over bytes, words and rows, compiled by numba; functions of arrays that know nothing of files or settings.

Each file stands alone: numba keeps compiled functions on disk by the file that they are in, and does not notice when
one that they call changes in another.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any], *, inline: bool = False) -> Any:
    """``function``, compiled when it is first called and kept on disk where there is a folder to keep it in."""
    try:
        return njit(cache=True, nogil=True, forceinline=inline)(function)
    except RuntimeError:
        # Numba says so when it finds no folder that it may write in.
        return njit(nogil=True, forceinline=inline)(function)


inlined = partial(compiled, inline=True)
"""The same for what is called for every byte or word: it becomes part of the functions that call it, for a call with
several arrays takes longer than what is done there."""
