"""Nearest points, in clouds packed one after another (see `records.PointBatch`).

All functions work in any number of dimensions and return the nearest first and, among points equally far, the one with
the lower index first. Distances are computed in float64 whatever the dtype, so coordinates of UTM size lose nothing.
Results do not depend on the implementation or the number of threads. No gradient flows through them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oneiros.ops.choice import choose
from oneiros.ops.packed import check_points, cloud_offsets

__all__ = ["knn", "radius_neighbors"]


def knn(
    points: Tensor,
    queries: Tensor,
    k: int,
    *,
    offsets: Tensor | None = None,
    query_offsets: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The k points nearest to each query, the query itself included where it is a point.

    points: (N, D); queries: (M, D), floating. offsets: int64 (B + 1,), clouds of the points; query_offsets: clouds of
        the queries, the same number; None takes `offsets`, where queries are as many as points. A query sees only the
        points of its own cloud.
    implementation: `numba` (a k-d tree), `reference` (torch, all distances, any device) or `auto`.
    Returns indices int64 (M, k), N where a cloud has fewer than k points, and distances (M, k), inf there.
    Raises ValueError for wrong shapes or offsets, coordinates that are not finite, or k < 1.
    """
    return _search(points, queries, k, math.inf, offsets, query_offsets, implementation)


def radius_neighbors(
    points: Tensor,
    queries: Tensor,
    radius: float,
    k: int,
    *,
    offsets: Tensor | None = None,
    query_offsets: Tensor | None = None,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The points no further than `radius` from each query, at most the k nearest. Otherwise as `knn`.

    The networks here take the k nearest; this is for a KPConvX by itself that looks at all points its kernel reaches.
    """
    if not radius >= 0:
        raise ValueError(f"radius is {radius}; it must be 0 or more")
    return _search(points, queries, k, float(radius), offsets, query_offsets, implementation)


@torch.no_grad()
def _search(
    points: Tensor,
    queries: Tensor,
    k: int,
    reach: float,
    offsets: Tensor | None,
    query_offsets: Tensor | None,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    check_points(points, "points")
    if queries is not points:
        check_points(queries, "queries")
    if points.shape[1] != queries.shape[1] or points.device != queries.device:
        raise ValueError(
            f"points {tuple(points.shape)} on {points.device} and queries {tuple(queries.shape)} on {queries.device} "
            "must share dimension and device"
        )
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    clouds = cloud_offsets(offsets, len(points))
    query_clouds = cloud_offsets(offsets if query_offsets is None else query_offsets, len(queries), "query_offsets")
    if len(clouds) != len(query_clouds):
        raise ValueError(f"offsets hold {len(clouds) - 1} clouds, query_offsets {len(query_clouds) - 1}")
    if choose(implementation, points.device) == "numba":
        from oneiros.ops.neighbors.cpu import search
    else:
        from oneiros.ops.neighbors.reference import search
    indices, squared = search(points, queries, k, reach, clouds, query_clouds)
    return indices, squared.sqrt_().to(points.dtype)
