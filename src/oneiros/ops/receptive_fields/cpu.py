"""The points of a field from the k-d tree of the neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.neighbors.cpu import Tree


def finder(points: Tensor, radius: float) -> Callable[[Tensor], Tensor]:
    """As `reference.finder`."""
    tree = Tree.of(points, [0, len(points)])
    room = np.empty(len(points), np.int64)

    def find(centre: Tensor) -> Tensor:
        count = tree.within(centre.numpy(), radius, room)
        return torch.from_numpy(np.sort(room[:count]))

    return find
