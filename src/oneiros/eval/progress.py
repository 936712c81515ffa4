"""How long things take: every phase of an evaluation announces its amount of work and advances a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]
Track = Callable[[str, int], Advance]


def silent(description: str, total: int) -> Advance:
    """Shows nothing."""
    return lambda amount: None


@contextmanager
def bars() -> Iterator[Track]:
    """Progress bars with the time left on stderr, one a phase, for as long as the context lasts."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("spent"),
        TimeElapsedColumn(),
    )
    # slow work comes in lumps, such as batches of episodes: a short memory would forget its speed between two
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=600) as progress:

        def track(description: str, total: int) -> Advance:
            task = progress.add_task(description, total=total)
            return lambda amount: progress.update(task, advance=amount)

        yield track
