"""Ctrl-C and SIGTERM end a run between two steps, so that it can be saved whole."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType


class StopRequest:
    """A context in which the first SIGINT or SIGTERM only sets `requested`; a second one acts as it would outside."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids handlers
            self._before = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()
        print("\nfinishing this step, then saving (once more to stop at once)", file=sys.stderr, flush=True)
