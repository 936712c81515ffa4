"""Clouds as a segmenter sees them: averaged over a grid, with a few numbers for every cell.

Legend: N points, S cells, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from oneiros.data.clouds.cloud import CLASSIFICATION, COLOURS, Cloud, CloudFile
from oneiros.ops.grid_subsample import grid_subsample
from oneiros.points import ground
from oneiros.points.profile import FLAGS, CloudProfile

NOT_LEARNED = -1
_LARGEST_RASTER = 20_000_000
_ANCHOR = 120  # cells: origins are multiples of it, so that parts of a cloud are cut into the cells of the whole


@dataclass(frozen=True)
class _Feature:
    """attributes: that it is made of. channels: how many numbers it is, the flag of what may be missing included.

    may_miss: whether a cloud without it is fine; its last channel then says whether the cloud has it (1, else 0)."""

    attributes: tuple[str, ...]
    channels: int
    may_miss: bool


_RETURNS = ("return_number", "number_of_returns")
_FEATURES = {
    "cones": _Feature((), len(ground.SLOPES), False),
    "steps": _Feature((), len(ground.STEEPEST), False),
    "intensity_rank": _Feature(("intensity",), 2, True),
    "echoes": _Feature(_RETURNS, 3, True),
    "colour_rank": _Feature(COLOURS, 4, True),
    # of runs made before features were relative to their cloud
    "intensity": _Feature(("intensity",), 1, False),
    "returns": _Feature(_RETURNS, 2, False),
    "colour": _Feature(COLOURS, 3, False),
}
FEATURES = ("cones", "steps", "intensity_rank", "echoes", "colour_rank")  # what a new run may be given


@dataclass(frozen=True)
class Cells:
    """A cloud averaged over a grid.

    xyz: float32 (S, 3), relative to `origin`, float64 (3,), in the file's coordinates.
    features: float32 (S, C), see `make_cells`.
    labels: int64 (S,), the commonest of a cell's points, -1 = not learned from; None where the cloud has no classes.
    inverse: int64 (N,), the cell of each point; of points that are no context the nearest cell.
    """

    xyz: Tensor
    features: Tensor
    labels: Tensor | None
    inverse: Tensor
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


def num_channels(features: Sequence[str]) -> int:
    """C for these features: the heights come first, always. Raises ValueError for one that is not known."""
    return layout(features)[""].stop if not features else layout(features)[features[-1]].stop


def layout(features: Sequence[str]) -> dict[str, slice]:
    """The channels of each feature, by name; those of the heights, which are always there, by "". ValueError for a name
    that is not known."""
    if unknown := [name for name in features if name not in _FEATURES]:
        raise ValueError(f"{unknown[0]!r} is no feature; choose from {', '.join(FEATURES)}")
    start = len(ground.NEAR_REACHES)
    places = {"": slice(0, start)}
    for name in features:
        places[name] = slice(start, start + _FEATURES[name].channels)
        start = places[name].stop
    return places


def may_miss(name: str) -> bool:
    """Whether a cloud without this feature is labelled all the same."""
    return _FEATURES[name].may_miss


def features_of(cloud: Cloud, profile: CloudProfile | None = None) -> tuple[str, ...]:
    """Which features a cloud offers. An attribute that is the same everywhere offers nothing."""
    profile = profile or CloudProfile.of(cloud)
    return tuple(name for name in FEATURES if _values(cloud, name, profile) is not None)


def attributes_for(file: CloudFile, features: Sequence[str]) -> tuple[str, ...]:
    """The attributes of a file that features and context are made of. ValueError where it lacks a needed one."""
    for name in features:
        if not _FEATURES[name].may_miss and not set(_FEATURES[name].attributes) <= set(file.attribute_names):
            raise _lacking(file.path, name)
    wanted = [*(attribute for name in features for attribute in _FEATURES[name].attributes), CLASSIFICATION, *FLAGS]
    return tuple(name for name in dict.fromkeys(wanted) if name in file.attribute_names)


def make_cells(
    cloud: Cloud,
    grid: float,
    features: Sequence[str],
    labels: np.ndarray | None = None,
    *,
    profile: CloudProfile | None = None,
) -> Cells:
    """Average a cloud over cells of side `grid`, of which one has a corner at 0 in the file's coordinates.

    features: as `features_of` names them, after the heights above the lowest ground near and further off.
        cones: heights above cones on the ground; steps: how steep ways to lower ground are; see `ground.heights`.
        intensity_rank: the place of the intensity among those of the cloud, in [-1, 1].
        echoes: return_number / number_of_returns and 1 / number_of_returns. colour_rank: the places of
        red, green and blue. Each of the last three ends with 1, or is all 0 where the cloud does not have it, or has
        the same everywhere.
    labels: int64 (N,), -1 = not learned from.
    profile: of the whole cloud, where this is a part; made here where it is not given. Points that it does not count as
        context are in no cell.
    Raises ValueError for a cloud without points, one that lacks a feature or has one that is no number, or one too far
    extended for its grid.
    """
    if not len(cloud):
        raise ValueError(f"{cloud.path}: holds no points")
    profile = profile or CloudProfile.of(cloud)
    kept = profile.context(cloud)
    if not kept.any():
        kept = np.ones(len(cloud), bool)
    places = layout(features)
    origin = np.floor(cloud.xyz[kept].min(0) / (_ANCHOR * grid)) * (_ANCHOR * grid)
    xyz = torch.from_numpy(cloud.xyz - origin)
    _check_extent(cloud, kept, grid)
    columns = [_needed(cloud, name, profile)[kept] for name in features if _FEATURES[name].attributes]
    values = torch.from_numpy(np.concatenate(columns, 1)) if columns else torch.zeros(int(kept.sum()), 0)
    chosen = torch.from_numpy(kept)
    known = None if labels is None else torch.from_numpy(labels)[chosen]
    sub = grid_subsample(xyz[chosen], grid, features=values, labels=known)
    assert sub.features is not None
    counts = sub.inverse.bincount(minlength=len(sub.xyz)).numpy()
    above = ground.heights(sub.xyz.numpy(), counts, grid, density=profile.density, features=features)
    found = sub.features.new_empty(len(sub.xyz), num_channels(features))
    start = 0
    for name, place in places.items():
        if name in above:
            found[:, place] = torch.from_numpy(above[name])
        else:
            width = _FEATURES[name].channels
            found[:, place] = sub.features[:, start : start + width]
            start += width
    return Cells(sub.xyz.float(), found, sub.labels, _inverse(xyz, chosen, sub.xyz, sub.inverse), origin)


def margin_of(grid: float, features: Sequence[str]) -> float:
    """How far around a cell its features look."""
    return ground.reach(grid, features)


def _inverse(xyz: Tensor, chosen: Tensor, cells: Tensor, inverse: Tensor) -> Tensor:
    if bool(chosen.all()):
        return inverse
    whole = inverse.new_empty(len(xyz))
    whole[chosen] = inverse
    _, nearest = KDTree(cells.numpy()).query(xyz[~chosen].numpy())
    whole[~chosen] = torch.from_numpy(np.asarray(nearest))
    return whole


def _lacking(path: Path | None, name: str) -> ValueError:
    return ValueError(f"{path}: has no {name}, which the model was trained with")


def _needed(cloud: Cloud, name: str, profile: CloudProfile) -> np.ndarray:
    values = _values(cloud, name, profile, constant=not _FEATURES[name].may_miss)
    if values is None:
        if not _FEATURES[name].may_miss:
            raise _lacking(cloud.path, name)
        values = np.zeros((len(cloud), _FEATURES[name].channels), np.float32)
    return values


def _values(cloud: Cloud, name: str, profile: CloudProfile, *, constant: bool = False) -> np.ndarray | None:
    """float32 (N, channels), or None where the cloud has none or, unless `constant`, all are equal."""
    attributes = _FEATURES[name].attributes
    if not set(attributes) <= cloud.attributes.keys():
        return None
    for attribute in attributes:
        values = cloud.attributes[attribute]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int((~np.isfinite(values)).argmax())
            raise ValueError(f"{cloud.path}: point {row}: {attribute} is {values[row]}; it must be a number")
    if not attributes:
        return np.empty((len(cloud), 0), np.float32)
    if name.endswith("_rank"):
        columns = [profile.ranks(each, cloud.attributes[each]) for each in attributes]
        told = [column for column in columns if column is not None]
        if not told:
            return None
        whole = [np.zeros(len(cloud), np.float32) if column is None else column for column in columns]
        return np.stack([*whole, np.ones(len(cloud), np.float32)], 1)
    if name in ("echoes", "returns"):
        number, count = (np.maximum(cloud.attributes[each].astype(np.float32), 1) for each in _RETURNS)
        if name == "returns":
            number = cloud.attributes[_RETURNS[0]].astype(np.float32)
            return np.stack([number / count, count], 1)
        ones = np.ones(len(cloud), np.float32)
        return np.stack([np.minimum(number / count, 1), 1 / count, ones], 1) if profile.returns or constant else None
    if name == "colour":
        colours = np.stack([cloud.attributes[each] for each in COLOURS], 1)
        return colours.astype(np.float32) / np.float32(max(profile.full_colour, 1))
    return cloud.attributes[name][:, None].astype(np.float32)


def _check_extent(cloud: Cloud, kept: np.ndarray, grid: float) -> None:
    width, depth = np.ptp(cloud.xyz[kept][:, :2], axis=0)
    side = ground.RASTER * grid
    if (width / side + 2) * (depth / side + 2) > _LARGEST_RASTER:
        raise ValueError(
            f"{cloud.path}: extends over {width:,.0f} x {depth:,.0f}, too much for cells of {grid:g}; are its units "
            "those of the training data?"
        )
