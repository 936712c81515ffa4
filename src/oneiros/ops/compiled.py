"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable, *, reorders_sums: bool = False) -> Callable:
    """Compile at the first call, once per machine, or once per process where no folder can be written.

    The loop releases the interpreter's lock. The cache notices changes of the function's own file alone: constants and
    functions it uses belong into the same file.

    reorders_sums: sums may be reordered into vectors and fused with products, and divisors are not looked at.
    """
    options: dict[str, Any] = {"nogil": True}
    if reorders_sums:
        options |= {"error_model": "numpy", "fastmath": {"reassoc", "contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:
        return njit(**options)(function)
