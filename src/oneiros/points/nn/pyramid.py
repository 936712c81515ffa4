"""The levels of a point network: ever coarser clouds, the neighbours of every point, and who lies in whose cell.

Depends on the coordinates alone, so it can be built by another thread while the network is busy, and pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneiros.ops.grid_subsample import grid_subsample
from oneiros.ops.neighbors import knn


@dataclass(frozen=True)
class PyramidLevel:
    """xyz: float32 (N, 3), metres. offsets: int64 (B + 1,), clouds. neighbors: int64 (N, H), nearest first, N = none.

    parents: int64 (N,), the point of the next level in whose cell a point lies; None in the coarsest level. Every point
    of the next level is somebody's parent.
    """

    xyz: Tensor
    offsets: Tensor
    neighbors: Tensor
    parents: Tensor | None

    def to(self, device: torch.device | str) -> PyramidLevel:
        parents = None if self.parents is None else self.parents.to(device)
        return replace(
            self,
            xyz=self.xyz.to(device),
            offsets=self.offsets.to(device),
            neighbors=self.neighbors.to(device),
            parents=parents,
        )


@dataclass(frozen=True)
class Pyramid:
    """`levels[0]` holds the points of the batch, each further one the barycentres of larger cells."""

    levels: tuple[PyramidLevel, ...]

    def to(self, device: torch.device | str) -> Pyramid:
        """The same pyramid with every tensor on `device`."""
        return Pyramid(tuple(level.to(device) for level in self.levels))

    @classmethod
    @torch.no_grad()
    def build(
        cls, xyz: Tensor, offsets: Tensor, *, grid: float, num_neighbors: Sequence[int], scaling: float = 2.2
    ) -> Pyramid:
        """One level for each of `num_neighbors`, the neighbours of a point in it, the point itself included.

        xyz: (N, 3); offsets: int64 (B + 1,). grid: metres between the points, as they were subsampled; the cells of
        level l have side grid * scaling ** l. Cells start at the corner of each cloud, so that a pyramid moves along
        with its cloud and does not depend on the others of the batch (the released code starts them at multiples of
        their side).
        Raises ValueError for what `knn` and `grid_subsample` refuse.
        """
        levels: list[PyramidLevel] = []
        for number, count in enumerate(num_neighbors):
            neighbors, _ = knn(xyz, xyz, count, offsets=offsets, query_offsets=offsets)
            level = PyramidLevel(xyz, offsets, neighbors, None)
            if number + 1 < len(num_neighbors):
                corners = _corners(xyz, offsets)
                cells = grid_subsample(xyz - corners, grid * scaling ** (number + 1), offsets=offsets)
                level = replace(level, parents=cells.inverse)
                xyz, offsets = _moved(cells.xyz, corners, cells.inverse), cells.offsets
            levels.append(level)
        return cls(tuple(levels))


def _corners(xyz: Tensor, offsets: Tensor) -> Tensor:
    """The lowest x, y, z of each point's cloud: (N, 3)."""
    clouds = cloud_numbers(offsets)
    lowest = xyz.new_full((len(offsets) - 1, xyz.shape[1]), torch.inf)
    return lowest.scatter_reduce(0, clouds[:, None].expand_as(xyz), xyz, "amin")[clouds]


def _moved(xyz: Tensor, corners: Tensor, parents: Tensor) -> Tensor:
    """Barycentres back where their clouds are: the corner of a cell's points is the corner of its cloud."""
    if not len(xyz):
        return xyz
    corner = xyz.new_empty(xyz.shape)
    corner[parents] = corners  # all of a cell's points carry the same
    return xyz + corner


def cloud_numbers(offsets: Tensor) -> Tensor:
    """The cloud that each packed point belongs to: int64 (N,)."""
    return torch.repeat_interleave(offsets.diff())
