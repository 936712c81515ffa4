"""How every verb ends before its time: Ctrl-C, SIGTERM, a terminal that closes, a reader that has gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any


class Stoppable:
    """A context in which SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that what is open is saved and closed.

    signal: the first of them that came, None = none did. Signals that are ignored, as under nohup, stay ignored; so
    does all of this outside the main thread, where Python forbids handlers, and in processes forked from this one.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._on_terminal = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def __enter__(self) -> Stoppable:
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._hang_up}
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Let what comes now pass: the process is ending already."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = self.signal or number
        raise KeyboardInterrupt

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        """As SIGTERM, which others who handle signals know; nothing more can be written to a terminal that is gone."""
        for stream in self._on_terminal:
            write_nowhere(stream)
        signal.raise_signal(signal.SIGTERM)


def write_nowhere(stream: Any) -> None:
    """Let whatever is still written to the stream of a file vanish."""
    with suppress(OSError, ValueError):  # a test's stream has no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
