"""What is in a cloud, found in one pass over the file that holds a part of it at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from oneiros.data.clouds.cloud import CHUNK, CLASSIFICATION, COLOURS, Cloud, CloudFile, concatenate

SAMPLE = 1_000_000  # points kept for the picture
_RETURN = "return_number"


@dataclass(frozen=True)
class CloudSummary:
    """What a pass over a cloud of at least one point has found.

    low, high: (3,), of x, y, z as the points have them.
    ranges: lowest and highest number of each attribute. missing: how many values of it are NaN, where any are.
    classes, returns: points by number.
    covered: the ground that has points, in squares of `cell`; in square units.
    sample: at most `SAMPLE` points spread over the file, with colours and classes.
    """

    low: np.ndarray
    high: np.ndarray
    ranges: dict[str, tuple[float, float]]
    missing: dict[str, int]
    classes: dict[int, int]
    returns: dict[int, int]
    cell: float
    covered: float
    sample: Cloud


def summarise(file: CloudFile) -> CloudSummary:
    """Read the file once. ValueError when it is damaged, has no points, or a coordinate is no number."""
    if not file.num_points:
        raise ValueError(f"{file.path}: has no points")
    step = -(-file.num_points // SAMPLE)
    cell = _cell(file)
    lows, highs, parts = [], [], []
    ranges: dict[str, list[np.ndarray]] = {name: [] for name in file.attribute_names}
    missing: Counter[str] = Counter()
    classes: Counter[int] = Counter()
    returns: Counter[int] = Counter()
    squares = np.empty(0, np.int64)
    for cloud in file.chunks(CHUNK):
        lows.append(cloud.xyz.min(axis=0))
        highs.append(cloud.xyz.max(axis=0))
        for name, values in cloud.attributes.items():
            absent = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
            missing[name] += int(absent.sum())
            if not absent.all():
                ranges[name] += [values[~absent].min(), values[~absent].max()]
        classes += _counts(cloud.classification)
        returns += _counts(cloud.attributes.get(_RETURN))
        squares = np.union1d(squares, _squares(cloud.xyz, cell))
        parts.append(_thinned(cloud, step))
    return CloudSummary(
        low=np.min(lows, axis=0),
        high=np.max(highs, axis=0),
        ranges={name: (float(min(values)), float(max(values))) for name, values in ranges.items() if values},
        missing={name: count for name, count in missing.items() if count},
        classes=dict(sorted(classes.items())),
        returns=dict(sorted(returns.items())),
        cell=cell,
        covered=len(squares) * cell**2,
        sample=concatenate(parts),
    )


def _cell(file: CloudFile) -> float:
    """A metre, or a twentieth of a cloud that is smaller than twenty."""
    low, high = file.bounds
    width = float((high - low)[:2].max())
    return width / 20 if 0 < width < 20 else 1.0


def _counts(numbers: np.ndarray | None) -> Counter[int]:
    if numbers is None:
        return Counter()
    values, counts = np.unique(numbers, return_counts=True)
    return Counter(dict(zip(values.astype(int).tolist(), counts.tolist(), strict=True)))


def _squares(xyz: np.ndarray, cell: float) -> np.ndarray:
    """One number for each square of ground that has a point."""
    column, row = np.floor(xyz[:, :2] / cell).astype(np.int64).T
    return np.unique((column << 32) + row)


def _thinned(cloud: Cloud, step: int) -> Cloud:
    kept = {name: values[::step] for name, values in cloud.attributes.items() if name in (CLASSIFICATION, *COLOURS)}
    return replace(cloud, xyz=cloud.xyz[::step], attributes=kept)
