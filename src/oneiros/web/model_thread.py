"""The one thread in which all sessions use a model that they share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class ModelThread:
    """Runs the work of several sessions one at a time, in order: each waits for at most one step of every other.

    One thread does the work, since every thread that calls torch would bring threads of its own, which then fight over
    the cores. shared=False: there is no model to share, and work is done at once in the thread that asks for it.
    """

    def __init__(self, *, shared: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "model") if shared else None

    def begin(self, work: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        """Start the work; the function returned waits for its result."""
        if self._thread is None:
            result = work(*arguments)
            return lambda: result
        return self._thread.submit(work, *arguments).result

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return self.begin(work, *arguments)()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
