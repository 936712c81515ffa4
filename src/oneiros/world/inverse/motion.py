"""What moved between two frames: how likely each place of the one went to which place around it in the next.

Frames are compared with displaced ones, as FlowNet's correlation does (arXiv 1504.06852, section 3), which finds the
wide jumps of games at few frames a second, where the flow of brightness is lost. There is nothing to learn in it, so
that a few hundred labelled steps are enough for what is learned after it.

Legend: T frames, S pixels of a side, K displacements, C cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_model
from oneiros.records import Camera

SIDE = 64
_ACROSS, _DOWN, _CELLS = 8, 2, (2, 4)  # displacements in pixels of half the size; rows and columns of cells
_SHARP = 16.0
FEATURES = (2 * _ACROSS + 1) * (2 * _DOWN + 1) * _CELLS[0] * _CELLS[1]
_AT_ONCE = 64


@dataclass(frozen=True)
class Watched:
    """One episode. motion: (T - 1, FEATURES), of each step. actions: as `Dataset.actions`, (T, ...), or None."""

    index: int
    motion: Tensor
    actions: Tensor | None = None


def watch(dataset: Dataset, camera: Camera, index: int, *, actions: bool = False) -> Watched:
    """An episode of two frames or more. Raises DamagedVideoError where it cannot be decoded."""
    length = next(episode.length for episode in dataset.episodes if episode.index == index)
    frames = dataset.thumbnails(index, camera, SIDE, stop=length)
    done = dataset.actions(index) if actions else None
    return Watched(index, motion(frames), None if done is None else torch.from_numpy(done))


def motion(frames: np.ndarray) -> Tensor:
    """uint8 (T, S, S, 3) -> float16 (T - 1, FEATURES): the odds of K displacements in each of C cells."""
    parts = [_odds(to_model(frames[first : first + _AT_ONCE + 1])) for first in range(0, len(frames) - 1, _AT_ONCE)]
    return torch.cat(parts) if parts else torch.zeros(0, FEATURES, dtype=torch.float16)


def _odds(frames: Tensor) -> Tensor:
    small = F.avg_pool2d(frames, 2)
    before, height, width = small[:-1], SIDE // 2, SIDE // 2
    padded = F.pad(small[1:], (_ACROSS, _ACROSS, _DOWN, _DOWN), mode="replicate")
    differences = [
        F.adaptive_avg_pool2d(
            (padded[..., down : down + height, across : across + width] - before).abs().mean(1, keepdim=True), _CELLS
        )
        for down in range(2 * _DOWN + 1)
        for across in range(2 * _ACROSS + 1)
    ]
    cost = torch.cat(differences, 1).flatten(2)  # (T - 1, K, C)
    return (-_SHARP * cost / (cost.mean(1, keepdim=True) + 0.02)).softmax(1).flatten(1).half()


def around(steps: Tensor, reach: int) -> Tensor:
    """Of each step (T, D) those from `reach` before to `reach` after, the outermost repeated: (T, (2 reach + 1) D)."""
    places = torch.arange(len(steps))[:, None] + torch.arange(-reach, reach + 1)
    return steps[places.clamp(0, len(steps) - 1)].flatten(1)
