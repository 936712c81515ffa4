"""Compiled loops on several threads.

Loops release the interpreter's lock and run in ordinary threads, not in numba's own: those may not be entered from two
threads at once, nor after a fork, and batches are prepared in both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def in_threads(task: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call `task` once with each tuple of arguments, on as many threads as torch uses."""
    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(arguments) <= 1:
        for each in arguments:
            task(*each)
        return
    for done in [_pool(os.getpid(), num_threads).submit(task, *each) for each in arguments]:
        done.result()


@cache
def _pool(process: int, num_threads: int) -> ThreadPoolExecutor:
    """Kept from call to call, but for one process: a forked child inherits the pool without its threads."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="oneiros-ops")
