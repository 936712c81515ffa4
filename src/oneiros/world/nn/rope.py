"""Rotary positions over several axes (arXiv 2104.09864, extended to time and two grid axes).

Legend: L elements, d channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

UNROTATED_FRACTION = 1 / 8  # of each head's channels at the least: room for content that has no position


def channels_per_axis(head_dim: int, num_axes: int) -> int:
    """Rotated channels an axis gets (even); what is left over, at least 1/8 of the head, stays unrotated."""
    channels = int(head_dim * (1 - UNROTATED_FRACTION) / num_axes) // 2 * 2
    if channels < 2:
        raise ValueError(f"head_dim is {head_dim}; rotary positions over {num_axes} axes need at least 8")
    return channels


def frequencies(head_dim: int, longest_periods: Sequence[float], device: torch.device | None = None) -> list[Tensor]:
    """How fast each channel pair of each axis turns, float64 radians a position: one tensor (pairs,) an axis.

    longest_periods: for each axis, the position difference after which its slowest channel pair has turned once.
    """
    # Periods run geometrically from 4 positions up to the longest.
    pairs = channels_per_axis(head_dim, len(longest_periods)) // 2
    exponents = torch.linspace(0, 1, pairs, dtype=torch.float64, device=device)
    return [2 * math.pi / (4.0 * (longest / 4.0) ** exponents) for longest in longest_periods]


def rotary_table(positions: Tensor, head_dim: int, longest_periods: Sequence[float]) -> Tensor:
    """Cosines and sines that rotate elements at the given positions.

    positions: (L, axes), any numeric type; angles are formed in float64, so an unbounded clock loses nothing.
    longest_periods: see `frequencies`. Returns float32 (2, L, rotated // 2).
    """
    axes = enumerate(frequencies(head_dim, longest_periods, positions.device))
    angle = torch.cat([positions[:, axis, None].double() * frequency for axis, frequency in axes], -1)
    return torch.stack([angle.cos(), angle.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the first channels of x (..., L, heads, d) by `rotary_table`'s (2, L, ...); the rest passes unchanged."""
    cosine, sine = table.to(x.dtype)[:, :, None]
    half = cosine.shape[-1]
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine, rest], -1)
