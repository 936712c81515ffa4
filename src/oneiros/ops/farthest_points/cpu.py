"""Farthest points compiled by numba, clouds on several threads."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.compiled import compiled
from oneiros.ops.threads import in_threads


def select(xyz: Tensor, spans: list[tuple[int, int]], count: int, start: int, enough: float) -> Tensor:
    """As `reference.select`."""
    coordinates = np.ascontiguousarray(xyz.detach().double().numpy().T)
    chosen = [np.full(min(count, high - low), -1) for low, high in spans]
    in_threads(_select, [(coordinates, *span, start, enough, room) for span, room in zip(spans, chosen, strict=True)])
    return torch.from_numpy(np.concatenate([room[room >= 0] for room in chosen] or [np.empty(0, np.int64)]))


@compiled
def _select(coordinates, low, high, start, enough, chosen):
    """Fill `chosen` from the cloud at [low, high), as far as needed."""
    distance, squared = np.full(high - low, np.inf), np.empty(high - low)
    latest = start
    for turn in range(len(chosen)):
        chosen[turn] = low + latest
        squared[:] = 0.0
        for each in range(len(coordinates)):
            line = coordinates[each, low:high]
            here = line[latest]
            for place in range(len(squared)):
                apart = line[place] - here
                squared[place] += apart * apart
        for place in range(len(squared)):
            distance[place] = min(distance[place], squared[place])
        distance[latest] = -1.0  # chosen: below every other
        latest = distance.argmax()
        if distance[latest] <= enough:
            return
