"""The points of a field from the k-d tree of the neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numba import njit
from torch import Tensor

from oneiros.ops.neighbors.cpu import LEAF, MAX_DEPTH, Tree


def finder(points: Tensor, radius: float) -> Callable[[Tensor], Tensor]:
    """As `reference.finder`."""
    tree = Tree.of(points, [0, len(points)])
    room = np.empty(len(points), np.int64)

    def find(centre: Tensor) -> Tensor:
        count = _within(*tree, centre.numpy(), radius, room)
        return torch.from_numpy(np.sort(room[:count]))

    return find


@njit(nogil=True, cache=True)
def _within(coordinates, order, axes, cuts, centre, radius, room):
    """Write the points no further than `radius` into `room` and return their number."""
    dims, count = len(centre), 0
    lows, highs = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH, np.int64)
    lows[0], highs[0], depth = 0, len(order), 1
    while depth:
        depth -= 1
        low, high = lows[depth], highs[depth]
        while high - low > LEAF:
            middle = (low + high) // 2
            axis = axes[middle]
            if axis < 0:
                break
            apart = centre[axis] - cuts[middle]
            if apart > radius:
                low = middle
            elif apart < -radius:
                high = middle
            else:
                lows[depth], highs[depth] = middle, high
                depth += 1
                high = middle
        for place in range(low, high):
            squared = 0.0
            for each in range(dims):
                apart = coordinates[each, place] - centre[each]
                squared += apart * apart
            if squared <= radius * radius:
                room[count] = order[place]
                count += 1
    return count
