"""Receptive fields: overlapping pieces of a cloud, small enough for a network, that cover every point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from oneiros.ops.choice import choose
from oneiros.ops.farthest_points import farthest_points
from oneiros.ops.grid_subsample import grid_subsample
from oneiros.ops.packed import check_points

__all__ = ["ReceptiveField", "receptive_fields"]

THINNED = 0.25  # of the radius: farthest points are chosen among the barycentres of such cells


class ReceptiveField(NamedTuple):
    """centre: float64, (2,) of a cylinder's axis or (3,) of a sphere. indices: int64, ascending."""

    centre: Tensor
    indices: Tensor


@torch.no_grad()
def receptive_fields(
    xyz: Tensor,
    radius: float,
    *,
    shape: Literal["cylinder", "sphere"] = "cylinder",
    centres: Literal["grid", "farthest"] = "grid",
    spacing: float | None = None,
    max_points: int | None = None,
    implementation: str = "auto",
) -> Iterator[ReceptiveField]:
    """Every point within `radius` of each centre; every point of the cloud is in at least one field.

    xyz: (N, 3) floating. shape: an endless upright cylinder, or a sphere.
    centres: `grid`, the middles of the occupied cells of a grid fixed in the world, or `farthest`, farthest points of
        the cloud (their cost grows with the square of the cloud's area: for tiles, not for countries).
    spacing: the grid's side, at most 2 radius / sqrt(dimensions), by default the radius; or how close to each other
        farthest points may come, at most the radius less the diagonal of a cell of a quarter of it, by default half the
        radius. Smaller means more overlap.
    max_points: a field of more points is dealt out, as cards are, into several of equal size with the same centre: each
        is thinner, none is smaller in extent, and no point is lost.
    The segmenter takes cylinders on a grid; spheres and farthest centres are for training a KPConvX by itself.
    Fields come lazily, in the order of their centres. Raises ValueError for wrong shapes, coordinates that are not
    finite, or a spacing that would leave gaps.
    """
    check_points(xyz, "xyz")
    dims = {"cylinder": 2, "sphere": 3}.get(shape)
    if dims is None or xyz.shape[1] != 3:
        raise ValueError(f"shape is {shape!r} and xyz {tuple(xyz.shape)}; choose cylinder or sphere, of points (N, 3)")
    if not 0 < radius < math.inf:
        raise ValueError(f"radius is {radius}; it must be above 0")
    if max_points is not None and max_points < 1:
        raise ValueError(f"max_points is {max_points}; it must be at least 1, or None for no limit")
    place = {"grid": _grid_centres, "farthest": _farthest_centres}.get(centres)
    if place is None:
        raise ValueError(f"centres are {centres!r}; choose grid or farthest")
    coordinates = xyz[:, :dims].double()
    if choose(implementation, xyz.device) == "numba":
        from oneiros.ops.receptive_fields.cpu import finder
    else:
        from oneiros.ops.receptive_fields.reference import finder
    return _fields(place(coordinates, radius, spacing), finder(coordinates, radius), max_points)


def _fields(centres: Tensor, find: Callable[[Tensor], Tensor], max_points: int | None) -> Iterator[ReceptiveField]:
    for centre in centres:
        indices = find(centre)
        parts = 1 if max_points is None else max(math.ceil(len(indices) / max_points), 1)
        for part in range(parts):
            yield ReceptiveField(centre, indices[part::parts])


def _grid_centres(points: Tensor, radius: float, spacing: float | None) -> Tensor:
    """Middles of the occupied cells (F, dims)."""
    spacing = _checked(radius if spacing is None else spacing, 2 * radius / math.sqrt(points.shape[1]))
    inverse = grid_subsample(points, spacing).inverse
    member = inverse.new_empty(int(inverse.max()) + 1 if len(inverse) else 0)
    member[inverse] = torch.arange(len(points), device=points.device)  # any one: all of a cell give the same middle
    return ((points[member] / spacing).floor() + 0.5) * spacing


def _farthest_centres(points: Tensor, radius: float, spacing: float | None) -> Tensor:
    """Farthest points of the thinned cloud (F, dims)."""
    cell = THINNED * radius
    spacing = _checked(radius / 2 if spacing is None else spacing, radius - cell * math.sqrt(points.shape[1]))
    thinned = grid_subsample(points, cell).xyz
    return thinned[farthest_points(thinned, len(thinned), reach=spacing)] if len(thinned) else thinned


def _checked(spacing: float, limit: float) -> float:
    if not 0 < spacing <= limit * (1 - 1e-6):  # a hair less, for what rounding takes from coordinates
        raise ValueError(
            f"spacing is {spacing}; it must be above 0 and below {limit:.6g}, or points fall between fields"
        )
    return spacing
