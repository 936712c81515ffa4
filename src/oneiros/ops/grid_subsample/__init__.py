"""One point per cell of a grid that is fixed in the world."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from oneiros.ops.packed import check_points, cloud_offsets

__all__ = ["Subsample", "grid_subsample"]


class Subsample(NamedTuple):
    """Cells that hold points, cloud by cloud and, within a cloud, ascending in x, then y, then z.

    xyz: (S, D), barycentres. features: (S, C), means. labels: int64 (S,), see `grid_subsample`.
    offsets: int64 (B + 1,). inverse: int64 (N,), the cell of each point.
    """

    xyz: Tensor
    features: Tensor | None
    labels: Tensor | None
    offsets: Tensor
    inverse: Tensor


@torch.no_grad()
def grid_subsample(
    xyz: Tensor,
    cell: float,
    *,
    offsets: Tensor | None = None,
    features: Tensor | None = None,
    labels: Tensor | None = None,
) -> Subsample:
    """Average the points of each cell of side `cell`.

    A point's cell is floor(xyz / cell), computed in float64, whatever tile the point came with: where coordinates are
    the world's, tiles agree along their borders.
    xyz: (N, D) floating. offsets: int64 (B + 1,); clouds are never mixed. features: floating (N, C).
    labels: int64 (N,), -1 = none; a cell takes the label most of its labelled points have, the lower one among equals,
        and -1 where no point has one.
    Deterministic on every device. Raises ValueError for wrong shapes, coordinates that are not finite, a cell not above
    0, or one so small that cells cannot be numbered in 63 bits.
    """
    check_points(xyz, "xyz")
    if not 0 < cell < float("inf"):
        raise ValueError(f"cell is {cell}; it must be above 0")
    if features is not None and (features.ndim != 2 or len(features) != len(xyz)):
        raise ValueError(f"features {tuple(features.shape)} must be (N, C), one row for each of the {len(xyz)} points")
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != xyz.shape[:1]):
        raise ValueError(f"labels are int64 (N,) for {len(xyz)} points, got {labels.dtype} {tuple(labels.shape)}")
    clouds = cloud_offsets(offsets, len(xyz)).to(xyz.device)
    keys, order = _cell_keys(xyz, cell, clouds).sort(stable=True)
    _, cell_of, sizes = keys.unique_consecutive(return_inverse=True, return_counts=True)
    inverse = torch.empty_like(cell_of)
    inverse[order] = cell_of
    first = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])  # where each cell begins in the order
    starts = torch.searchsorted(first[:-1], clouds)
    return Subsample(
        xyz=_means(xyz, order, sizes),
        features=None if features is None else _means(features, order, sizes),
        labels=None if labels is None else _majority(labels, inverse, len(sizes)),
        offsets=starts,
        inverse=inverse,
    )


def _cell_keys(xyz: Tensor, cell: float, clouds: Tensor) -> Tensor:
    """A number for each point's cell (N,) that rises with cloud, x, y, z."""
    key = torch.repeat_interleave(clouds.diff())
    if not len(key):
        return key
    room = float(len(clouds))
    for axis in xyz.T:
        column = (axis.double() / cell).floor_()
        lowest = column.min()
        extent = (column.max() - lowest + 1).item()
        room *= extent
        if room >= 2**63:
            raise ValueError(f"cell is {cell}, too small for points that extend over {extent * cell:g} along one axis")
        key = key * int(extent) + (column - lowest).long()
    return key


def _means(values: Tensor, order: Tensor, sizes: Tensor) -> Tensor:
    """Means over consecutive runs of the ordered rows (N, C), summed in float64 in a fixed order."""
    if not len(sizes):  # torch refuses to reduce nothing
        return values
    sums = torch.segment_reduce(values[order].double(), "sum", lengths=sizes, axis=0)
    return (sums / sizes[:, None]).to(values.dtype)


def _majority(labels: Tensor, inverse: Tensor, num_cells: int) -> Tensor:
    """The most frequent label of each cell that is not -1: int64 (S,)."""
    winner = labels.new_full((num_cells,), -1)
    known = labels >= 0
    if not known.any():
        return winner
    num_labels = int(labels.max()) + 1
    votes, counts = (inverse[known] * num_labels + labels[known]).unique(return_counts=True)
    # Stable sorts: by count, most first, then by cell, leave each cell's winner in front, the lower label among equals.
    by_count = counts.argsort(descending=True, stable=True)
    votes = votes[by_count]
    votes = votes[(votes // num_labels).argsort(stable=True)]
    cells = votes // num_labels
    first = torch.ones_like(cells, dtype=torch.bool)
    first[1:] = cells[1:] != cells[:-1]
    winner[cells[first]] = votes[first] % num_labels
    return winner
