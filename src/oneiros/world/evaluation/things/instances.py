"""Things as connected patches of one kind, and which of two frames' things are the same.

Legend: M frames, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 1 / 16  # of the width: how far apart the centres of a small thing may lie
GROWTH = 3.0  # times that one may be larger than the other


@dataclass(frozen=True)
class Instances:
    """Things of M frames, in no order. frame, kind: int64 (I,). area: pixels, centre: (I, 2) row and column, float."""

    frame: Tensor
    kind: Tensor
    area: Tensor
    centre: Tensor


def instances(kinds: Tensor, *, least: int) -> Instances:
    """Patches of one kind that hang together, corners included, of `least` pixels or more.

    kinds: uint8 (M, h, w), 0 where there is no thing.
    """
    patches = _patches(kinds)
    places = (patches > 0).nonzero()
    frame, row, column = places.unbind(1)
    size = kinds.shape[1] * kinds.shape[2] + 1
    names, which = (frame * size + patches[frame, row, column]).unique(return_inverse=True)
    area = torch.bincount(which, minlength=len(names)).double()
    sums = [torch.bincount(which, each.double(), minlength=len(names)) for each in (row, column)]
    kind = torch.zeros(len(names), dtype=torch.int64).scatter_(0, which, kinds[frame, row, column].long())
    centre = torch.stack(sums, 1) / area[:, None]
    large = area >= least
    return Instances((names // size)[large], kind[large], area[large], centre[large])


def _patches(kinds: Tensor) -> Tensor:
    """A number from 1 on for every patch of a frame, the same at all its pixels: int64 (M, h, w), 0 = no thing.

    Every pixel of a thing takes the largest number around it until none changes.
    """
    count, height, width = kinds.shape
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    found = torch.zeros(count, height, width)
    for kind in range(1, int(kinds.max()) + 1 if count else 1):
        mine = (kinds == kind).float()
        rows = mine.flatten(1).any(dim=1).nonzero()[:, 0]  # of frames that still change
        now, mine = (numbers * mine)[rows], mine[rows]
        while len(rows):
            grown = F.max_pool2d(now[:, None], 3, stride=1, padding=1)[:, 0] * mine
            changed = (grown != now).flatten(1).any(dim=1)
            found[rows[~changed]] += grown[~changed]
            rows, now, mine = rows[changed], grown[changed], mine[changed]
    return found.long()


def matches(real: Instances, shown: Instances, *, width: int) -> list[tuple[int, int]]:
    """Which real thing is which shown one: pairs of places in the two, each at most once, the nearest first.

    Two are the same where they are of one kind in one frame, their centres lie within a sixteenth of the frame's width
    or half the root of the real one's area, and neither is more than three times as large as the other.
    """
    by_frame: dict[tuple[int, int], list[int]] = {}
    for place, key in enumerate(zip(shown.frame.tolist(), shown.kind.tolist(), strict=True)):
        by_frame.setdefault(key, []).append(place)
    areas, centres = shown.area.tolist(), shown.centre.tolist()
    pairs = []
    for place, (frame, kind) in enumerate(zip(real.frame.tolist(), real.kind.tolist(), strict=True)):
        area, (row, column) = real.area[place].item(), real.centre[place].tolist()
        reach = max(REACH * width, area**0.5 / 2)
        for other in by_frame.get((frame, kind), ()):
            distance = ((centres[other][0] - row) ** 2 + (centres[other][1] - column) ** 2) ** 0.5
            if distance <= reach and area / GROWTH <= areas[other] <= area * GROWTH:
                pairs.append((distance, place, other))
    taken_real, taken_shown, found = set(), set(), []
    for _, place, other in sorted(pairs):
        if place not in taken_real and other not in taken_shown:
            taken_real.add(place)
            taken_shown.add(other)
            found.append((place, other))
    return found
