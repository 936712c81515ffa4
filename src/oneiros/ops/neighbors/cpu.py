"""Neighbours by scipy's k-d tree, cloud by cloud."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor


def search(
    points: Tensor, queries: Tensor, k: int, reach: float, offsets: Tensor, query_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """As `reference.search`."""
    indices = np.full((len(queries), k), len(points))
    distances = np.full((len(queries), k), np.inf)
    spans = zip(*(pairwise(clouds.tolist()) for clouds in (offsets, query_offsets)), strict=True)
    for (first, last), (first_query, last_query) in spans:
        if last > first and last_query > first_query:
            tree = cKDTree(points[first:last].double().numpy())
            found = tree.query(queries[first_query:last_query].double().numpy(), range(1, k + 1), workers=-1)
            distance, index = found
            near = distance <= reach
            distances[first_query:last_query] = np.where(near, distance, np.inf)
            indices[first_query:last_query] = np.where(near & (index < last - first), index + first, len(points))
    return torch.from_numpy(indices), torch.from_numpy(distances).square()
