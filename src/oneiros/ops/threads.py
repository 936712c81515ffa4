"""Compiled loops on several threads.

Loops release the interpreter's lock and run in ordinary threads, not in numba's own: those may not be entered from two
threads at once, nor after a fork, and batches are prepared in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


def in_threads(task: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call `task` once with each tuple of arguments, on at most `torch.get_num_threads()` threads."""
    num_threads = min(torch.get_num_threads(), len(arguments))
    if num_threads <= 1:
        for each in arguments:
            task(*each)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda each: task(*each), arguments))  # list: so that errors are raised
