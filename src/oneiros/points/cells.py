"""Clouds as a segmenter sees them: averaged over a grid, with a few numbers for every cell.

Legend: N points, S cells, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.data.clouds.cloud import COLOURS, Cloud, CloudFile
from oneiros.ops.grid_subsample import grid_subsample

NOT_LEARNED = -1
HEIGHT_CHANNELS = 2  # the first channels of every cell's features, in metres
_HEIGHT_REACHES = (12, 40)  # in cells: how far around the lowest ground is looked for
_RASTER = 4  # cells of the grid along one side of a raster's cell
_LOW = 0.1  # quantile of the heights over a raster's cell that counts as its ground: a few false echoes lie below
_LARGEST_RASTER = 50_000_000
_ANCHOR = 120  # cells: origins are multiples of it, so that parts of a cloud are cut into the cells of the whole

OPTIONAL_FEATURES = ("intensity", "returns", "colour")
_ATTRIBUTES = {"intensity": ("intensity",), "returns": ("return_number", "number_of_returns"), "colour": COLOURS}


@dataclass(frozen=True)
class Cells:
    """A cloud averaged over a grid.

    xyz: float32 (S, 3), relative to `origin`, float64 (3,), in the file's coordinates.
    features: float32 (S, C), see `make_cells`.
    labels: int64 (S,), the commonest of a cell's points, -1 = not learned from; None where the cloud has no classes.
    inverse: int64 (N,), the cell of each point.
    """

    xyz: Tensor
    features: Tensor
    labels: Tensor | None
    inverse: Tensor
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


def num_channels(features: Sequence[str]) -> int:
    """C for these optional features: the heights come first, always. Raises ValueError for one that is not known."""
    if unknown := [name for name in features if name not in OPTIONAL_FEATURES]:
        raise ValueError(f"{unknown[0]!r} is no feature; choose from {', '.join(OPTIONAL_FEATURES)}")
    return HEIGHT_CHANNELS + sum(len(_ATTRIBUTES[name]) for name in features)


def features_of(cloud: Cloud) -> tuple[str, ...]:
    """Which optional features a cloud offers. An attribute that is the same everywhere offers nothing."""
    return tuple(name for name in OPTIONAL_FEATURES if _values(cloud, name) is not None)


def attributes_for(file: CloudFile, features: Sequence[str]) -> tuple[str, ...]:
    """The attributes of a file that optional features are made of. Raises ValueError where it lacks one."""
    for name in features:
        if not set(_ATTRIBUTES[name]) <= set(file.attribute_names):
            raise _lacking(file.path, name)
    return tuple(attribute for name in features for attribute in _ATTRIBUTES[name])


def make_cells(cloud: Cloud, grid: float, features: Sequence[str], labels: np.ndarray | None = None) -> Cells:
    """Average a cloud over cells of side `grid`, of which one has a corner at 0 in the file's coordinates.

    features: optional ones, as `features_of` names them; after the heights above the lowest ground near and further
        off come intensity as the file has it, return_number / number_of_returns and number_of_returns, colours in
        [0, 1].
    labels: int64 (N,), -1 = not learned from.
    Raises ValueError for a cloud without points, one that lacks a feature or has one that is no number, or one too far
    extended for its grid.
    """
    if not len(cloud):
        raise ValueError(f"{cloud.path}: holds no points")
    _check_extent(cloud, grid)
    columns = []
    for name in features:
        values = _values(cloud, name, constant=True)
        if values is None:
            raise _lacking(cloud.path, name)
        columns.append(values)
    origin = np.floor(cloud.xyz.min(0) / (_ANCHOR * grid)) * (_ANCHOR * grid)
    xyz = torch.from_numpy(cloud.xyz - origin)
    values = torch.from_numpy(np.concatenate(columns, 1)) if columns else torch.zeros(len(cloud), 0)
    sub = grid_subsample(xyz, grid, features=values, labels=None if labels is None else torch.from_numpy(labels))
    assert sub.features is not None
    heights = torch.from_numpy(_heights(sub.xyz.numpy(), grid))
    return Cells(sub.xyz.float(), torch.cat([heights, sub.features], 1), sub.labels, sub.inverse, origin)


def _lacking(path: Path | None, name: str) -> ValueError:
    return ValueError(f"{path}: has no {name}, which the model was trained with")


def _values(cloud: Cloud, name: str, *, constant: bool = False) -> np.ndarray | None:
    """float32 (N, channels), or None where the cloud has none or, unless `constant`, all are equal."""
    if not set(_ATTRIBUTES[name]) <= cloud.attributes.keys():
        return None
    if name == "colour":
        found = cloud.colours()
    elif name == "returns":
        number, count = (cloud.attributes[each].astype(np.float32) for each in _ATTRIBUTES[name])
        count = np.maximum(count, 1)
        found = np.stack([number / count, count], 1)
    else:
        found = cloud.attributes[name][:, None]
    if found is None or (not constant and len(found) and (found == found[:1]).all()):
        return None
    if not np.isfinite(found).all():
        row, channel = np.argwhere(~np.isfinite(found))[0]
        raise ValueError(f"{cloud.path}: point {row}: {name} is {found[row, channel]}; it must be a number")
    return found.astype(np.float32)


def _check_extent(cloud: Cloud, grid: float) -> None:
    width, depth = np.ptp(cloud.xyz[:, :2], axis=0)
    side = _RASTER * grid
    if (width / side + 2) * (depth / side + 2) > _LARGEST_RASTER:
        raise ValueError(
            f"{cloud.path}: extends over {width:,.0f} x {depth:,.0f}, too much for cells of {grid:g}; are its units "
            "those of the training data, and does a point lie far from all others?"
        )


def _heights(xyz: np.ndarray, grid: float) -> np.ndarray:
    """Heights above the lowest ground within each of the reaches: float32 (S, HEIGHT_CHANNELS)."""
    from scipy.ndimage import minimum_filter

    side = _RASTER * grid
    places = np.floor(xyz[:, :2] / side).astype(np.int64)
    places -= places.min(0)  # of a raster that is fixed in the world, as the origin is
    rows, columns = (places.max(0) + 1).tolist()
    keys = places[:, 0] * columns + places[:, 1]
    order = np.lexsort((xyz[:, 2], keys))
    used, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    ground = np.full(rows * columns, np.inf)
    ground[used] = xyz[order[starts + (_LOW * (counts - 1)).astype(np.int64)], 2]
    ground = ground.reshape(rows, columns)
    heights = []
    for reach in _HEIGHT_REACHES:
        lowest = minimum_filter(ground, 2 * (reach // _RASTER) + 1, mode="constant", cval=np.inf)
        heights.append(xyz[:, 2] - lowest[places[:, 0], places[:, 1]])
    return np.stack(heights, 1).astype(np.float32)


def margin_of(grid: float) -> float:
    """How far around a cell its features look."""
    return (max(_HEIGHT_REACHES) + 2 * _RASTER) * grid
