"""Which episodes of a dataset cannot be read, as far as that shows without decoding."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from oneiros.data.episodes.metadata import DatasetMetadata
from oneiros.data.episodes.parquet import num_rows
from oneiros.data.video import count_whole_frames, is_complete


def find_damage(metadata: DatasetMetadata) -> dict[int, str]:
    """By number of episode, what keeps it from being read."""
    look = cache(_rows_and_flaw)
    damage: dict[int, str] = {}
    for files in metadata.episodes:
        needed = {
            files.data: 1,
            **{video.path: video.first_frame + files.length for video in files.videos.values()},
        }
        for path, rows in needed.items():
            readable, flaw = look(path)
            if rows > readable:
                damage.setdefault(files.index, f"{path.relative_to(metadata.root)} {flaw}")
    return damage


def _rows_and_flaw(path: Path) -> tuple[float, str]:
    """How many rows of a file can be read, and why no more."""
    if not path.is_file():
        return 0, "is missing"
    if path.suffix == ".parquet":  # all or nothing: the index stands at the end
        with path.open("rb") as file:
            file.seek(-min(4, file.seek(0, os.SEEK_END)), os.SEEK_END)
            if file.read() != b"PAR1":
                return 0, "is cut off"
        try:
            return num_rows(path), "has no rows"
        except ValueError as error:
            return 0, str(error).removeprefix(f"{path}: ")
    if path.suffix != ".mp4" or is_complete(path):
        return math.inf, ""
    return count_whole_frames(path), "is cut off"


def mention(path: Path, notes: Sequence[str]) -> None:
    """One warning of what was made good."""
    if notes:
        warnings.warn(f"{path}: {notes[0]}{f' (and {len(notes) - 1} more such)' if notes[1:] else ''}", stacklevel=3)


def report(summary: str, damage: dict[int, str], *, strict: bool) -> None:
    """One warning that lists every damaged episode; strict: one error."""
    first = next(iter(damage.values()))
    message = f"{summary}: {ranges(damage)} ({first}{', ...' if len(damage) > 1 else ''})"
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def ranges(indices: Iterable[int]) -> str:
    """3, 4, 5, 9 -> "3-5, 9"."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
