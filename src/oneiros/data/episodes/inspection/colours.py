"""Films whose red and blue are exchanged, as OpenCV's order of channels leaves them: beside the other episodes, and
beside what the dataset's own statistics say of the camera. Where all films and the statistics are exchanged alike, only
eyes can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from oneiros.data.checks import Problem
from oneiros.data.episodes.damage import ranges

_BINS = 6  # of a channel
_CLEAR = 0.5  # as much nearer is what is exchanged
_NEAR = 0.45  # share of pixels of other colours that films of one scene may have
_LEVELS = 0.04  # of 1: means further apart are not by chance


def check_channels(name: str, seen: Mapping[int, np.ndarray], mean: np.ndarray | None) -> Iterator[Problem]:
    """name: of the camera. seen: by episode, uint8 (T, H, W, 3). mean: of its colours by the dataset's statistics, (3,)
    in 0 to 1, or None."""
    if not seen:
        return
    odd = exchanged({index: frames[:: max(1, len(frames) // 16)] for index, frames in seen.items()})
    if odd:
        yield Problem(
            f"{name}: red and blue are exchanged in episode{'s' * (len(odd) > 1)} {ranges(odd)}, beside the others "
            "(OpenCV's order of channels is BGR); write these films anew, or leave them out"
        )
    if mean is None or len(mean) != 3:
        return
    found = np.mean([frames.reshape(-1, 3).mean(axis=0) for frames in seen.values()], axis=0) / 255
    own, turned = np.abs(found - mean).max(), np.abs(found[::-1] - mean).max()
    if own > _LEVELS and turned < _CLEAR * own:
        told = ", ".join(f"{each:.2f}" for each in mean)
        yield Problem(
            f"{name}: red, green and blue are {', '.join(f'{each:.2f}' for each in found)} on average, by the "
            f"dataset's statistics {told}: one of the two is BGR; look at the contact sheet, and write the films anew "
            "where they are blue that should be red"
        )


def exchanged(films: Mapping[int, np.ndarray]) -> list[int]:
    """The episodes whose colours are those of most others with red and blue exchanged. films: uint8 (T, H, W, 3)."""
    indices = list(films)
    own = np.stack([_histogram(films[index]) for index in indices])
    turned = np.stack([_histogram(films[index][..., ::-1]) for index in indices])
    same, other = (np.abs(own[:, None] - each[None]).sum(axis=-1) / 2 for each in (own, turned))
    itself = np.eye(len(indices), dtype=bool)
    agree = (same < _CLEAR * other) & (same < _NEAR) & ~itself
    oppose = (other < _CLEAR * same) & (other < _NEAR) & ~itself
    odd = [indices[place] for place in np.flatnonzero(oppose.sum(axis=1) > agree.sum(axis=1))]
    if 2 * len(odd) > len(indices):  # half and half: beside the first
        return [indices[place] for place in np.flatnonzero(oppose[0])]
    return odd


def _histogram(frames: np.ndarray) -> np.ndarray:
    """The shares of pixels by colour, (BINS ** 3,)."""
    bins = (frames.reshape(-1, 3).astype(np.int32) * _BINS) // 256
    counts = np.bincount(bins @ np.array([_BINS**2, _BINS, 1]), minlength=_BINS**3)
    return counts / counts.sum()
