"""Kernel point convolution in plain torch: the oracle that the compiled kernels are tested against.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

import torch
from torch import Tensor

GAUSSIAN_WIDTH = 0.3  # of sigma (arXiv 1904.08889, released code)


def strength(offsets: Tensor, sigma: float, influence: str) -> Tensor:
    """Influence (...) of neighbours at `offsets` (..., D) from their kernel points; its gradient is always finite."""
    if influence == "constant":
        return torch.ones_like(offsets[..., 0])
    squared = offsets.square().sum(-1)
    if influence == "gaussian":
        return torch.exp(-squared / (2 * (GAUSSIAN_WIDTH * sigma) ** 2))
    # The gradient of a root at 0 is infinite: there it is taken of 1 instead, and thrown away.
    away = squared > 0
    distance = torch.where(away, torch.where(away, squared, 1).sqrt(), 0)
    return torch.relu(1 - distance / sigma)


def geometry(
    points: Tensor, queries: Tensor, neighbors: Tensor, kernel_points: Tensor, sigma: float, influence: str
) -> tuple[Tensor, Tensor]:
    """Row of the nearest kernel point, int16 (M, H), the lower of equals, and the influence (M, H); 0 where missing."""
    offsets = _rows(points, neighbors) - queries[:, None]
    squared = (offsets[:, :, None] - kernel_points).square().sum(-1)
    nearest = squared.argmin(-1) * _present(neighbors, len(points))
    return nearest.to(torch.int16), influence_of(points, queries, neighbors, kernel_points, nearest, sigma, influence)


def influence_of(
    points: Tensor,
    queries: Tensor,
    neighbors: Tensor,
    kernel_points: Tensor,
    nearest: Tensor,
    sigma: float,
    influence: str,
) -> Tensor:
    """Influence (M, H) given the nearest kernel points, differentiable with respect to all three sets of points."""
    offsets = _rows(points, neighbors) - queries[:, None] - kernel_points[nearest.long()]
    return strength(offsets, sigma, influence) * _present(neighbors, len(points))


def conv(
    neighbors: Tensor,
    nearest: Tensor,
    influence: Tensor,
    weights: Tensor,
    modulations: Tensor | None,
    features: Tensor,
) -> Tensor:
    """The sum over neighbours, (M, C), given the geometry (M, H)."""
    nearest = nearest.long()
    kernels = weights[nearest]
    if modulations is not None:
        rows = nearest[..., None].expand(-1, -1, modulations.shape[2])
        gates = modulations.gather(1, rows)
        kernels = kernels * gates.repeat_interleave(weights.shape[1] // modulations.shape[2], -1)
    return (influence[..., None] * kernels * _rows(features, neighbors)).sum(1)


def _present(neighbors: Tensor, num_points: int) -> Tensor:
    return (neighbors >= 0) & (neighbors < num_points)


def _rows(table: Tensor, neighbors: Tensor) -> Tensor:
    """Rows (M, H, ...) of the neighbours, zeros where there is none."""
    padded = torch.cat([table, table.new_zeros(1, table.shape[1])])
    return padded[torch.where(neighbors < 0, len(table), neighbors)]
