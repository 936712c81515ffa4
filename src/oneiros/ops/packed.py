"""Checks of packed clouds, shared by the operations on points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def check_points(points: Tensor, name: str) -> None:
    """ValueError unless `points` is a finite floating tensor (N, D), D at least 1."""
    if points.ndim != 2 or points.shape[1] < 1 or not points.is_floating_point():
        raise ValueError(f"{name} are floating coordinates (N, D), got {points.dtype} {tuple(points.shape)}")
    if not all_finite(points):
        row = int((~points.isfinite().all(1)).nonzero()[0])
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


# On a CPU numpy looks, on one thread, in a fraction of a millisecond: on a busy machine torch's threads wait for one
# another a hundred times longer.
def all_finite(tensor: Tensor) -> bool:
    """Whether every number of a floating tensor is one."""
    if tensor.device.type != "cpu" or tensor.dtype not in (torch.float32, torch.float64):
        return bool(torch.isfinite(tensor).all())
    return bool(np.isfinite(tensor.detach().numpy()).all())


def extremes(numbers: Tensor) -> tuple[int, int]:
    """The lowest and the highest of a tensor of whole numbers, at least one."""
    if numbers.device.type != "cpu":
        low, high = numbers.aminmax()
        return int(low), int(high)
    return int(numbers.numpy().min()), int(numbers.numpy().max())
