"""Points so far from all others that no scanner put them there, such as one at 0, 0, 0.

Legend: N points.
"""

from __future__ import annotations

import numpy as np

_FAR, _NARROW = 3, 50.0  # widths of the cloud (or so many metres) beyond its edge from which on a point is a stray
_EDGE = 0.001  # share of the points that the edge of a cloud leaves out at each side, at least one
_FEW = 10  # points: clouds of fewer have no strays


def limits(xyz: np.ndarray, *, narrow: float = _NARROW) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest x, y that are no stray's, each float64 (2,), from (N, 3) points, N >= 1.

    narrow: clouds smaller than this, in their unit, are taken to be as wide.
    """
    aside = max(int(_EDGE * len(xyz)), 1) if len(xyz) >= _FEW else 0
    ordered = np.partition(xyz[:, :2], [aside, len(xyz) - 1 - aside], axis=0)
    low, high = ordered[aside], ordered[len(xyz) - 1 - aside]
    far = _FAR * max(float((high - low).max()), narrow)
    return low - far, high + far


def outside(xyz: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which of (N, 3) points lie beyond these limits: bool (N,)."""
    return np.any((xyz[:, :2] < low) | (xyz[:, :2] > high), axis=1)
