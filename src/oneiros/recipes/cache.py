"""What runs keep for the next: one process builds, the others wait and find it. And the room it takes."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Inside, no other process is inside for the same target (torchrun starts several that all need the same)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_room(folder: Path, needed: int, what: str) -> str:
    """A line saying what `what` takes in `folder`. Raises OSError where it does not fit, what is there counted in."""
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + there < needed:
        raise OSError(f"{folder}: {what} take {needed / 1e6:,.0f} MB, only {free / 1e6:,.0f} MB are free")
    return f"{what} take {needed / 1e6:,.1f} MB in {folder}"
