"""The points of a field by all distances, on any device."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def finder(points: Tensor, radius: float) -> Callable[[Tensor], Tensor]:
    """A function from a centre to the indices, ascending, of the points (N, D) no further than `radius`."""

    def find(centre: Tensor) -> Tensor:
        squared = points.new_zeros(len(points))
        for axis, here in zip(points.T, centre, strict=True):
            squared += (axis - here).square()
        return (squared <= radius * radius).nonzero()[:, 0]

    return find
