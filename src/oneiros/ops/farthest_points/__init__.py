"""Farthest point sampling: points spread over a cloud, each the farthest from all before it."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from oneiros.ops.choice import choose
from oneiros.ops.packed import check_points, cloud_offsets

__all__ = ["farthest_points"]


@torch.no_grad()
def farthest_points(
    xyz: Tensor,
    count: int,
    *,
    offsets: Tensor | None = None,
    start: int = 0,
    reach: float | None = None,
    implementation: str = "auto",
) -> Tensor:
    """Indices of `count` points of each cloud, all of a smaller one, cloud by cloud, in the order they were chosen.

    xyz: (N, D) floating. offsets: int64 (B + 1,), clouds. start: the first choice, counted within each cloud.
    reach: stop earlier, once every point of the cloud lies no further than this from a chosen one.
    implementation: `numba` (clouds on several threads), `reference` (torch, any device) or `auto`.
    Returns int64 (at most B * count,). Among points equally far the lower index is chosen; no point is chosen twice.
    Takes N * count steps. Raises ValueError for wrong shapes, coordinates that are not finite, or a start outside a
    cloud.
    """
    check_points(xyz, "xyz")
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if reach is not None and not reach >= 0:
        raise ValueError(f"reach is {reach}; it must be 0 or more")
    spans = [(low, high) for low, high in pairwise(cloud_offsets(offsets, len(xyz)).tolist()) if high > low]
    smallest = min((high - low for low, high in spans), default=math.inf)
    if not 0 <= start < smallest:
        raise ValueError(f"start is {start}; it must be a point of every cloud, the smallest holds {smallest}")
    if choose(implementation, xyz.device) == "numba":
        from oneiros.ops.farthest_points.cpu import select
    else:
        from oneiros.ops.farthest_points.reference import select
    return select(xyz, spans, count, start, -1.0 if reach is None else reach * reach)
