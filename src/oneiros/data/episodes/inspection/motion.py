"""Films that stand still, show frames twice, skip some, or are black, seen in frames of a small size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oneiros.data.checks import Problem

_FEWEST_FRAMES = 6  # of which it can be said that they stand still
_SAME = 0.4  # levels of 255: a mean difference that is none but the codec's
_STALLED = 0.5  # share of an episode
_ALMOST = 0.2  # of the usual change: as little as none, where frames are shown twice
_FEWEST_TWICE, _EVEN = 5, 0.35  # frames shown twice; spread of the times between them, over their mean
_BLACK, _FEWEST_BLACK = 6.0, 10  # levels of 255: mean of a frame; frames
_LEAP, _FEWEST_MOVING = 6.0, 20  # times the change of the frames around; frames


def check_motion(index: int, frames: np.ndarray, *, smooth: bool) -> Iterator[Problem]:
    """frames: uint8 (T, H, W, 3). smooth: what is filmed moves without cuts, as a robot does, and a game does not."""
    if len(frames) < _FEWEST_FRAMES:
        return
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    same = change < _SAME
    start, length = _longest(same)
    if length >= len(frames) - _FEWEST_FRAMES // 2:  # a codec may need some to settle
        yield Problem(f"episode {index}: the film stands still, its first {len(frames)} frames are equal; delete it")
        return
    if length > _STALLED * len(frames):
        yield Problem(
            f"episode {index}: the film stands still for {length} frames from frame {start} on; was a camera lost?"
        )
    elif min(same[::2].mean(), same[1::2].mean()) < 0.1 and max(same[::2].mean(), same[1::2].mean()) > 0.9:
        yield Problem(
            f"episode {index}: every frame is shown twice; the camera ran at half the rate that the dataset claims"
        )
    elif (twice := _twice(change)) is not None:
        apart, first = twice
        yield Problem(
            f"episode {index}: every {apart:.3g}th frame or so is shown twice, the first is frame "
            f"{first}; the camera ran at {1 - 1 / apart:.0%} of the rate that the dataset claims"
        )
    if smooth and (leap := _leap(change)) is not None:
        yield Problem(
            f"episode {index}: from frame {leap} to {leap + 1} the picture leaps, more than {_LEAP:.0f} times as far "
            "as around it: frames are missing there, or films were joined; cut it in two"
        )


def check_dark(name: str, index: int, frames: np.ndarray) -> Iterator[Problem]:
    """Films that are black, or from some frame on for a while."""
    dark = frames.mean(axis=(1, 2, 3)) < _BLACK
    start, length = _longest(dark)
    if dark.all():
        yield Problem(f"episode {index}: {name} is black")
    elif length >= _FEWEST_BLACK:
        yield Problem(f"episode {index}: {name} is black for {length} frames from frame {start} on")


def _longest(flags: np.ndarray) -> tuple[int, int]:
    """Where the longest run of true ones begins, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    return (int(starts[lengths.argmax()]), int(lengths.max())) if len(starts) else (0, 0)


def _twice(change: np.ndarray) -> tuple[float, int] | None:
    """How many frames apart those lie that are shown twice, and the first of them, where they come evenly, as no choice
    of actions does."""
    places = np.flatnonzero(change < max(_SAME, _ALMOST * np.median(change)))
    apart = np.diff(places)
    if len(places) < _FEWEST_TWICE or (apart < 2).any() or apart.std() > _EVEN * apart.mean():
        return None
    everywhere = places[0] < 3 * apart.mean() and len(change) - places[-1] < 3 * apart.mean()
    return (float(apart.mean()), int(places[0]) + 1) if everywhere else None


def _leap(change: np.ndarray) -> int | None:
    """The step that changes the picture many times as much as any of those before and after it."""
    if len(change) < _FEWEST_MOVING or np.median(change) < _SAME:
        return None
    place = int(change.argmax())
    around = np.concatenate([change[max(0, place - 10) : place], change[place + 1 : place + 11]])
    others = np.delete(change, place)
    return place if change[place] > _LEAP * around.max() and change[place] > 2 * others.max() else None
