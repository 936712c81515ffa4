"""Checks of the arguments of kernel point convolution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oneiros.ops.packed import all_finite, extremes

INFLUENCES = ("linear", "gaussian", "constant")
MOST_KERNEL_POINTS = 32767  # their rows are kept in int16


def check_geometry(
    points: Tensor, queries: Tensor, neighbors: Tensor, kernel_points: Tensor, sigma: float, influence: str
) -> None:
    """Raise a ValueError unless the geometry of these points can be computed."""
    for name, tensor in (("points", points), ("queries", queries), ("kernel_points", kernel_points)):
        if tensor.ndim != 2 or tensor.shape[1] != kernel_points.shape[-1] or not tensor.is_floating_point():
            raise ValueError(
                f"{name} is {_described(tensor)}; expected floats (rows, D) with the kernel points' D,"
                f" {kernel_points.shape[-1] if kernel_points.ndim else 'missing'}"
            )
    if not 1 <= len(kernel_points) <= MOST_KERNEL_POINTS:
        raise ValueError(f"there are {len(kernel_points)} kernel points; expected 1 to {MOST_KERNEL_POINTS}")
    if influence not in INFLUENCES:
        raise ValueError(f"influence is {influence!r}; choose {', '.join(INFLUENCES)}")
    if sigma == 0 or not math.isfinite(sigma):
        raise ValueError(f"sigma is {sigma}; expected a finite number other than 0")
    check_neighbors(neighbors, len(queries), len(points))
    for name, tensor in (("points", points), ("queries", queries), ("kernel_points", kernel_points)):
        if not all_finite(tensor):
            row = int((~torch.isfinite(tensor)).any(1).nonzero()[0, 0])
            raise ValueError(f"{name} row {row} is {tensor[row].tolist()}; coordinates must be finite")


def check_neighbors(neighbors: Tensor, num_queries: int, num_points: int) -> None:
    """Raise a ValueError unless neighbours (M, H) are rows of the points, or -1 or N for none."""
    if neighbors.ndim != 2 or len(neighbors) != num_queries or neighbors.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"neighbors is {_described(neighbors)}; expected int64 ({num_queries}, H), a row per query")
    if neighbors.numel():
        low, high = extremes(neighbors)
        if low < -1 or high > num_points:
            wrong = low if low < -1 else high
            raise ValueError(f"neighbors holds {wrong}; expected 0 to {num_points - 1}, or -1 or {num_points} for none")


def check_given(nearest: Tensor, influence: Tensor, neighbors: Tensor, num_kernel_points: int) -> None:
    """Raise a ValueError unless a geometry computed before fits these neighbours and kernel points."""
    if nearest.shape != neighbors.shape or influence.shape != neighbors.shape:
        raise ValueError(f"geometry is of neighbors {tuple(nearest.shape)}, not {tuple(neighbors.shape)}")
    if nearest.numel() and (highest := extremes(nearest)[1]) >= num_kernel_points:
        raise ValueError(f"geometry knows kernel point {highest}; there are {num_kernel_points}")


def check_operands(
    num_points: int,
    num_queries: int,
    num_kernel_points: int,
    weights: Tensor,
    modulations: Tensor | None,
    features: Tensor,
) -> None:
    """Raise a ValueError unless weights, modulations and features fit the points and one another."""
    if features.ndim != 2 or len(features) != num_points:
        raise ValueError(f"features is {_described(features)}; expected ({num_points}, C), a row per point")
    channels = features.shape[1]
    if weights.shape != (num_kernel_points, channels):
        raise ValueError(f"weights is {_described(weights)}; expected (K, C) = ({num_kernel_points}, {channels})")
    if modulations is None:
        return
    if modulations.ndim != 3 or modulations.shape[:2] != (num_queries, num_kernel_points):
        raise ValueError(
            f"modulations is {_described(modulations)};"
            f" expected (M, K, C // G) = ({num_queries}, {num_kernel_points}, C // G)"
        )
    groups = modulations.shape[2]
    if (channels % groups if groups else channels) != 0:
        raise ValueError(
            f"modulations has {groups} values per kernel point; that does not divide the {channels} channels"
        )


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
