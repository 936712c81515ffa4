"""A small network that learns to see things in real frames, so that it can be asked what a dream shows.

It learns from real frames alone, in half a minute on one thread, anew for every evaluation: the same seed and dataset
give the same network. Whoever must tell a medikit from a wall in a dream should know real medikits only.

Legend: M frames, h x w pixels, K kinds of things. Class 0 is what is no thing, 1 to K are the kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oneiros.console import Advance
from oneiros.data.frames import to_model

_BATCH = 16
_RATE = 4e-3
_RARE = 0.4  # the power by which rare classes weigh more: at 0.5 it sees things that are not there
_CHUNK = 128  # frames a call when it only looks


class ThingNetwork(nn.Module):
    """Frames (M, 3, h, w) in [-1, 1] -> logits (M, 1 + K, h, w). h and w are even."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 16, 3, padding=1)
        self.coarse = nn.Sequential(
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=2, dilation=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Conv2d(48, 16, 1), nn.ReLU(), nn.Conv2d(16, 1 + kinds, 3, padding=1))

    def forward(self, frames: Tensor) -> Tensor:
        fine = self.fine(frames).relu()
        coarse = F.interpolate(self.coarse(fine), size=fine.shape[-2:], mode="nearest")
        return self.head(torch.cat([fine, coarse], dim=1))


@dataclass(frozen=True)
class Labelled:
    """Real frames uint8 (M, h, w, 3), and what each pixel is, uint8 (M, h, w)."""

    frames: np.ndarray
    kinds: np.ndarray


def learn_to_see(learned: Labelled, kinds: int, *, steps: int, seed: int, advance: Advance) -> ThingNetwork:
    """A network of `kinds` kinds of things, in eval mode, after so many steps of 16 frames, half of them with things.

    Rare classes weigh more.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ThingNetwork(kinds)
    with_things = torch.from_numpy(np.flatnonzero((learned.kinds > 0).any(axis=(1, 2))))
    share = np.bincount(learned.kinds.ravel(), minlength=1 + kinds)[: 1 + kinds] / learned.kinds.size
    weights = torch.from_numpy(np.maximum(share, 1e-5) ** -_RARE).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for _ in range(steps):
        some = torch.randint(len(learned.frames), (_BATCH // 2,), generator=generator)
        more = with_things[torch.randint(len(with_things), (_BATCH // 2,), generator=generator)]
        chosen = torch.cat([some, more]).numpy()
        frames, kind = to_model(learned.frames[chosen]), torch.from_numpy(learned.kinds[chosen]).long()
        if torch.rand((), generator=generator) < 0.5:
            frames, kind = frames.flip(-1), kind.flip(-1)
        loss = F.cross_entropy(network(frames.contiguous(memory_format=torch.channels_last)), kind, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        advance(1)
    return network.eval()


@torch.no_grad()
def see(network: ThingNetwork, frames: Tensor) -> Tensor:
    """The kind of thing at each pixel of uint8 frames (M, h, w, 3): uint8 (M, h, w), 0 where there is none."""
    seen = [network(to_model(part)).argmax(1).to(torch.uint8) for part in frames.split(_CHUNK)]
    return torch.cat(seen)
