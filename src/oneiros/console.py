"""What a person watching sees on stderr: lines, and progress bars with the time left at the recent rate."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median_low

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.segment import Segment, Segments
from rich.table import Column
from rich.text import Text

Advance = Callable[[int], None]
Track = Callable[[str, int], Advance]

# Seconds before the first line, and between lines, where there is no terminal
FIRST_LINE_AFTER, NEXT_LINE_AFTER = 2.0, 15.0

_LONGEST = 1200  # characters of a line: most of a screen of 80 x 24
_MEMORY = 60.0  # seconds after which work counts 1/e in the rate
_MEMORY_INTERVALS = 3  # at least as long as so many intervals, where updates come more seldom
_TOGETHER = 1.0  # seconds: updates closer than this are one, such as episodes of a batch that end together


def say(text: str) -> None:
    """A line for the person watching, on stderr; once, however many processes train."""
    if _leads():
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with whatever would steer a terminal (escape codes, marks that reverse the direction of writing) spelled
    out: names and paths may be a stranger's."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def in_one_line(text: str) -> str:
    """The same in one line, its middle left out where it would fill a screen."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def show(*shown: RenderableType) -> None:
    """Print tables on stdout, what their cells say as it is: no cell has markup."""
    console = Console(markup=False, emoji=False)
    for each in shown:
        console.print(Segments([Segment(printable(part.text), part.style) for part in console.render(each)]))


def silent(description: str, total: int) -> Advance:
    """A bar that shows nothing."""
    return lambda amount: None


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Rate:
    """Recent progress in units per second: a mean over time in which the past fades.

    done: units done before the first second counts, such as the steps of a run that goes on.
    clock: seconds, never going back.
    """

    def __init__(self, done: float = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed = self._latest = (clock(), done)  # where the last interval ended; the last update
        self._opened = -math.inf  # when the first of the updates since then came
        self._intervals: deque[float] = deque(maxlen=9)
        self._speed = self._weight = 0.0  # the fading sum of speeds, and of their weights: at most 1

    def update(self, done: float) -> None:
        """Count progress: `done` units are done in all."""
        now = self._clock()
        if now - self._opened >= _TOGETHER:
            self._close()
            self._opened = now
        self._latest = now, done

    @property
    def per_second(self) -> float | None:
        """The rate now; None before the first update."""
        speed, weight = self._faded()
        return speed / weight if weight else None

    def seconds_left(self, total: float) -> float | None:
        """Seconds until `total` units are done; None before there is any progress."""
        rate, missing = self.per_second, max(0.0, total - self._latest[1])
        return missing / rate if rate else None

    def _close(self) -> None:
        if self._span > 0:
            self._speed, self._weight = self._faded()
            self._intervals.append(self._span)
            self._closed = self._latest

    @property
    def _span(self) -> float:
        return self._latest[0] - self._closed[0]

    def _faded(self) -> tuple[float, float]:
        """Sum of speeds and sum of weights, with the interval that is still open."""
        if self._span <= 0:
            return self._speed, self._weight
        usual = median_low([*self._intervals, self._span])  # an hour's pause is not usual
        keep = math.exp(-self._span / max(_MEMORY, _MEMORY_INTERVALS * usual))
        speed = (self._latest[1] - self._closed[1]) / self._span
        return keep * self._speed + (1 - keep) * speed, keep * self._weight + (1 - keep)


class Bar:
    """One piece of work. Call it with the units done since the last call, and a text to show beside them."""

    def __init__(self, progress: Progress, description: str, total: int, first: int, unit: str, *, lines: bool) -> None:
        self._progress, self._total, self._done, self._lines = progress, total, first, lines
        self._name = unit or description
        self._rate, self._began = Rate(first), time.monotonic()
        self._first_line = self._next_line = self._began + FIRST_LINE_AFTER
        self._task = progress.add_task(description, total=total, completed=first, left=None, text="")

    def __call__(self, amount: int = 1, text: str = "") -> None:
        self._done += amount
        self._rate.update(self._done)
        left = self._rate.seconds_left(self._total)
        self._progress.update(self._task, completed=self._done, left=left, text=text)
        if self._lines:
            self._line(text, left)

    def _line(self, text: str, left: float | None) -> None:
        """Print how far it is, where a line is due."""
        now, finished = time.monotonic(), self._done >= self._total
        if now < (self._first_line if finished else self._next_line):
            return
        self._next_line = now + NEXT_LINE_AFTER
        spent = f"in {duration(now - self._began)}"
        time_left = "" if left is None else f"{duration(left)} left"
        parts = (f"{self._name} {self._done:,}/{self._total:,}", text, spent if finished else time_left)
        print(printable("  ".join(part for part in parts if part)), file=sys.stderr, flush=True)


class Bars:
    """Makes the bars of one display, one under the other."""

    def __init__(self, progress: Progress, *, lines: bool) -> None:
        self._progress, self._lines = progress, lines

    def __call__(self, description: str, total: int, *, first: int = 0, unit: str = "") -> Bar:
        """A bar of `total` units, `first` of them done before.

        unit: what a line begins with where there is no terminal. Default: the description.
        """
        return Bar(self._progress, description, total, first, unit, lines=self._lines)


@contextmanager
def bars(*, transient: bool = False, visible: bool | None = None) -> Iterator[Bars]:
    """Progress bars on stderr for as long as the context lasts; a line now and then where there is no terminal.

    transient: they vanish at the end. visible: default is once, however many processes train.
    """
    console = Console(stderr=True)
    shown = _leads() if visible is None else visible
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _TimeColumn(table_column=Column(min_width=9, no_wrap=True)),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        transient=transient,
        disable=not (shown and console.is_terminal),
        refresh_per_second=2,  # drawing takes time from the work
    )
    with progress:
        yield Bars(progress, lines=shown and not console.is_terminal)


class _TimeColumn(ProgressColumn):
    """The time left, or the time a finished piece of work took."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"{timedelta(seconds=int(task.finished_time or 0))} spent", style="progress.elapsed")
        left = task.fields["left"]
        return Text("" if left is None else f"{timedelta(seconds=math.ceil(left))} left", style="progress.remaining")


def _leads() -> bool:
    return os.environ.get("RANK", "0") == "0"
