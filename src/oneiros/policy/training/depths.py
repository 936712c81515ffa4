"""Depth images of demonstrations, in the size in which a policy is shown them.

Legend: B moments, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.data.depth import codes_to_depth
from oneiros.data.episodes.arrays import unpack_codes
from oneiros.data.episodes.clips import EpisodeArrays
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import decoded_frames
from oneiros.data.frames import resized
from oneiros.records import Camera

_FARTHEST = 0.999  # of the camera's range: its last code says "this far or farther", or that nothing was seen


@dataclass(frozen=True)
class Depths:
    """Episodes of frames with depth. recorded: the depth camera as it was; shown: of the size of the frames."""

    episodes: Sequence[EpisodeArrays]
    recorded: Camera
    shown: Camera

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        return self.shown.fx, self.shown.fy, self.shown.cx, self.shown.cy

    @property
    def max_depth(self) -> float:
        return _FARTHEST * self.recorded.depth_max

    def metres(self, places: Sequence[tuple[int, int]]) -> Tensor:
        """float32 (B, H, W) of rows of episodes, given as (place of the episode, row)."""
        codes = np.stack([unpack_codes(self.episodes[place].content[row, ..., 3:]) for place, row in places])
        return torch.from_numpy(codes_to_depth(codes, self.recorded))


def read_depths(
    dataset: Dataset, episodes: Sequence[EpisodeArrays], *, camera: str, height: int, width: int, cache: Path
) -> Depths:
    """Depth of the same episodes, in their order, decoded once and kept in `cache`.

    ValueError for a dataset without depth, without the camera's focal length, or with depth that cannot be decoded.
    """
    recorded = dataset.camera(kind="depth")
    if not (recorded.fx > 0 and recorded.fy > 0):
        raise ValueError(
            f"{dataset.path}: {recorded.name} has no focal length (fx, fy); without it there are no points"
        )
    indices = [episode.index for episode in episodes]
    loaded = decoded_frames(dataset, indices, size=(height, width), camera=camera, depth=True, cache=cache)
    if missing := sorted(set(indices) - {episode.index for episode in loaded}):
        raise ValueError(f"{dataset.path}: depth of episode {missing[0]} cannot be decoded; delete the episode")
    return Depths(loaded, recorded, resized(recorded, height, width))
