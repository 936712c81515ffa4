"""Checks of packed clouds, shared by the operations on points."""

from __future__ import annotations

import torch
from torch import Tensor


def check_points(points: Tensor, name: str) -> None:
    """ValueError unless `points` is a finite floating tensor (N, D), D at least 1."""
    if points.ndim != 2 or points.shape[1] < 1 or not points.is_floating_point():
        raise ValueError(f"{name} are floating coordinates (N, D), got {points.dtype} {tuple(points.shape)}")
    finite = points.detach().isfinite()
    if not finite.all():
        row = int((~finite.all(1)).nonzero()[0])
        raise ValueError(f"{name}[{row}] is {points[row].tolist()}; coordinates must be finite")


def cloud_offsets(offsets: Tensor | None, num_points: int, name: str = "offsets") -> Tensor:
    """Offsets (B + 1,) int64 on the CPU, one cloud where None is given. ValueError unless they rise from 0 to N."""
    if offsets is None:
        return torch.tensor([0, num_points])
    if offsets.ndim != 1 or len(offsets) < 1 or offsets.dtype != torch.int64:
        raise ValueError(f"{name} are int64 (B + 1,), got {offsets.dtype} {tuple(offsets.shape)}")
    offsets = offsets.cpu()
    if offsets[0] != 0 or offsets[-1] != num_points or (offsets.diff() < 0).any():
        raise ValueError(f"{name} are {offsets.tolist()}; they must rise from 0 to the number of points, {num_points}")
    return offsets
