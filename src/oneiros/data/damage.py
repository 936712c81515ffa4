"""Which episodes of a dataset cannot be read, as far as that shows without decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from oneiros.data.layout import Layout
from oneiros.data.video import is_complete


def find_damage(layout: Layout) -> dict[int, str]:
    """By number of episode, what keeps it from being read."""
    reasons: dict[Path, str | None] = {}
    damage: dict[int, str] = {}
    for files in layout.episodes:
        for path in (files.data, *(video.path for video in files.videos.values())):
            if path not in reasons:
                reasons[path] = _reason_unreadable(path)
            if reasons[path] is not None:
                damage.setdefault(files.index, f"{path.relative_to(layout.root)} {reasons[path]}")
    return damage


def _reason_unreadable(path: Path) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.suffix == ".parquet":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4))
            return None if file.read(4) == b"PAR1" else "is cut off"
    return None if path.suffix != ".mp4" or is_complete(path) else "is cut off"


def report(summary: str, damage: dict[int, str], *, strict: bool) -> None:
    """One warning that lists every damaged episode; strict: one error."""
    first = next(iter(damage.values()))
    message = f"{summary}: {_ranges(damage)} ({first}{', ...' if len(damage) > 1 else ''})"
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _ranges(indices: Iterable[int]) -> str:
    """3, 4, 5, 9 -> "3-5, 9"."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
