"""Neighbours by all distances, a chunk of queries at a time: the oracle, and the way on a GPU."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

PAIRS_PER_CHUNK = 1 << 23  # 64 MB of distances


def search(
    points: Tensor, queries: Tensor, k: int, reach: float, offsets: Tensor, query_offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Indices (M, k), N where missing, and squared distances in float64 (M, k), inf where missing, nearest first.

    Only points no further than `reach` count. Offsets lie on the CPU.
    """
    indices = torch.full((len(queries), k), len(points), device=points.device)
    squared = torch.full((len(queries), k), torch.inf, dtype=torch.float64, device=points.device)
    spans = zip(*(pairwise(clouds.tolist()) for clouds in (offsets, query_offsets)), strict=True)
    for (first, last), (first_query, last_query) in spans:
        cloud = points[first:last].double()
        rows = max(PAIRS_PER_CHUNK // max(len(cloud), 1), 1)
        for start in range(first_query, last_query if len(cloud) else first_query, rows):
            chunk = slice(start, min(start + rows, last_query))
            distance, index = _lowest(_squared_distances(queries[chunk].double(), cloud), k)
            near = distance <= reach * reach
            indices[chunk, : index.shape[1]] = torch.where(near, index + first, len(points))
            squared[chunk, : index.shape[1]] = torch.where(near, distance, torch.inf)
    return indices, squared


def _squared_distances(queries: Tensor, points: Tensor) -> Tensor:
    """(M, N). Sums run dimension by dimension, so that every implementation rounds alike and sees the same ties."""
    total = queries.new_zeros(len(queries), len(points))
    for query, point in zip(queries.T, points.T, strict=True):
        total += (query[:, None] - point).square_()
    return total


def _lowest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k lowest of each row, ascending, and their columns; the lower column first among equals."""
    num = values.shape[1]
    lowest, columns = values.topk(min(k + 1, num), largest=False)
    columns, order = columns.sort(1)
    lowest, order = lowest.gather(1, order).sort(dim=1, stable=True)
    columns = columns.gather(1, order)
    if num > k:  # topk takes any of the equals at its end: only a stable sort takes the lower columns
        tied = lowest[:, k - 1] == lowest[:, k]
        columns[tied, :k] = values[tied].sort(dim=1, stable=True)[1][:, :k]
    return lowest[:, :k], columns[:, :k]
