"""Clocks of rows that do not run at the dataset's rate: late, of the wall, at another rate, with jumps, backwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oneiros.data.checks import Problem
from oneiros.data.episodes.damage import ranges
from oneiros.data.episodes.dataset import Dataset

_HALF = 0.5  # frames: further apart, readers that go by time take other frames than those that count rows
_WRONG_RATE = 0.01  # share


def check_clocks(dataset: Dataset) -> Iterator[Problem]:
    """A frame is found by its time stamp in other readers, by its row here: half a frame apart, they would differ.

    One problem for each kind of fault, with its first episode and the numbers of all.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for episode in dataset.episodes:
        try:
            numbers = dataset.column(episode.index, "frame_index")[:, 0]
            times = dataset.column(episode.index, "timestamp")[:, 0].astype(float)
        except ValueError as error:
            found.setdefault("", []).append((episode.index, f"{error}; other readers may need it"))
            continue
        for kind, text in (*_order(numbers), *_clock(times, dataset.fps)):
            found.setdefault(kind, []).append((episode.index, f"{dataset.path}: episode {episode.index}, row {text}"))
    for each in found.values():
        others = ranges(index for index, _ in each[1:])
        yield Problem(f"{each[0][1]}{f' (likewise in {len(each) - 1} more: {others})' if others else ''}")


def _order(numbers: np.ndarray) -> Iterator[tuple[str, str]]:
    wrong = numbers != np.arange(len(numbers))
    if wrong.any():
        row = int(wrong.argmax())
        yield "order", f"{row}: frame_index is {numbers[row]}, not {row}; rows are taken in its order"


def _clock(times: np.ndarray, fps: int) -> Iterator[tuple[str, str]]:
    """(kind, what is to be said of the first row where it shows); nothing where all are within half a frame."""
    rows = np.arange(len(times))
    off = ~(np.abs(times * fps - rows) <= _HALF)
    if not off.any():
        return
    kind, row, why = _fault(times * fps, int(off.argmax()), fps)
    yield (
        kind,
        f"{row}: timestamp is {times[row]:.3f} s; at {fps} fps it would be {row / fps:.3f} s: {why}; frames are "
        "counted here, other readers may take others",
    )


def _fault(frames: np.ndarray, first: int, fps: int) -> tuple[str, int, str]:
    """What is wrong with a clock that counts frames from 0: the kind, the row where it shows, and words for it."""
    if not np.isfinite(frames).all():
        return "none", int((~np.isfinite(frames)).argmax()), "the stamp is no number"
    steps = np.diff(frames)
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        return "back", row, "the clock stands still or goes back here"
    usual = float(np.median(steps)) if len(steps) else 1.0
    jumps = np.flatnonzero(steps > usual + 0.8)
    drift = abs(usual - 1) > _WRONG_RATE
    if len(jumps) and steps[jumps].sum() - usual * len(jumps) > _HALF and len(jumps) < 0.2 * len(steps):
        row, lost = int(jumps[0]) + 1, max(1, round(float(steps[jumps[0]] / usual)) - 1)
        told = (
            f"the clock jumps by {steps[jumps[0]] / fps:.3f} s here, as if {lost} frame{'s' * (lost > 1)} had been lost"
        )
        return "jump", row, f"{told}{f', and {len(jumps) - 1} times more after it' if len(jumps) > 1 else ''}"
    if drift:
        return "rate", first, f"rows are stamped {fps / usual:.4g} times a second; if that is right, import with --fps"
    if abs(frames[0]) > _HALF:
        wall = " as a clock of the wall does" if abs(frames[0]) > 1e6 * fps else ""
        return "start", first, f"the clock begins at {frames[0] / fps:.3f} s{wall}, not at 0"
    if abs((frames[-1] - frames[0]) / max(1, len(steps)) - 1) > 1e-4 and abs(frames[-1] - len(steps)) > _HALF:
        return "drift", first, f"the clock runs away, by {(frames[-1] - len(steps)) / fps:+.3f} s at the episode's end"
    return "late", first, "the stamp is early or late"
