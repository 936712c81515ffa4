"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """Compile at the first call, once per machine, or once per process where no folder can be written.

    The loop releases the interpreter's lock. The cache notices changes of the function's own file alone: constants and
    functions it uses belong into the same file.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)
