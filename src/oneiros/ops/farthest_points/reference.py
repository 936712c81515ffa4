"""Farthest points in torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def select(xyz: Tensor, spans: list[tuple[int, int]], count: int, start: int, enough: float) -> Tensor:
    """`enough`: stop at this squared distance, below 0 never. Spans are not empty."""
    chosen = [low + _select(xyz[low:high].double(), min(count, high - low), start, enough) for low, high in spans]
    return torch.cat(chosen) if chosen else torch.empty(0, dtype=torch.int64, device=xyz.device)


def _select(cloud: Tensor, count: int, start: int, enough: float) -> Tensor:
    distance = torch.full((len(cloud),), torch.inf, dtype=torch.float64, device=cloud.device)
    chosen = [torch.tensor(start, device=cloud.device)]
    while True:
        latest = cloud[chosen[-1]]
        squared = torch.zeros_like(distance)
        for axis, here in zip(cloud.T, latest, strict=True):  # one by one: every implementation rounds alike
            squared += (axis - here).square()
        distance = torch.minimum(distance, squared)
        distance[chosen[-1]] = -1.0  # chosen: below every other
        if len(chosen) == count or (enough >= 0 and distance.max() <= enough):
            return torch.stack(chosen)
        # argmax promises no order among equals on a GPU: look for the first that is the greatest.
        chosen.append((distance == distance.max()).int().argmax())
