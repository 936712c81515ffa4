"""How features of frames become tokens: by a Video Former, or pooled where there is none.

Legend: B batch, T frames observed and imagined, N features of a frame, C their width, M tokens of width D.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.policy.config import PolicyConfig
from oneiros.records import nonzero_std
from oneiros.video_former.geometry import GeometryVideoFormer
from oneiros.video_former.video_former import VideoFormer2D, VideoFormer3D

_POOLED = 4  # rows and columns, at most, of a frame's features where no former condenses them
_FARTHEST = 8.0  # standard deviations: what lies farther from the mean counts as this far


def make_former(config: PolicyConfig) -> nn.Module:
    """A module that condenses features (B, T, N, C) to tokens (B, M, D); see `condense`."""
    if config.former == "none":
        return Pooled(config)
    variants = {
        "2d": VideoFormer2D,
        "3d": VideoFormer3D,
        "geometry": partial(GeometryVideoFormer, geometry_dim=config.geometry_dim),
    }
    return variants[config.former](
        dim=config.dim,
        depth=config.former_depth,
        condition_dim=len(config.feature_mean),
        head_dim=config.dim // config.heads,
        heads=config.heads,
        num_latents=config.num_frames * config.latents_per_frame,
        num_frames=config.num_frames,
        features_per_view=math.prod(grid_of(config)),
    )


def condense(
    former: nn.Module, features: Tensor, extra: Tensor | None, frame_mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Tokens (B, M, D), and geometry (B, T, N + Q, G) of a former that predicts it, else None.

    extra: tokens (B, Q, D) of the depth image, read by the former, or added to its tokens where it reads none.
    frame_mask: bool (B, T), frames that a former over time is to see.
    """
    if isinstance(former, GeometryVideoFormer):
        return former(features, extra=extra, frame_mask=frame_mask)
    if isinstance(former, VideoFormer3D):
        return former(features, extra=extra, frame_mask=frame_mask), None
    tokens = former(features)
    return tokens if extra is None else torch.cat([tokens, extra.to(tokens.dtype)], 1), None


def num_condensed(config: PolicyConfig) -> int:
    """How many tokens `condense` returns: of frames and, with geometry tokens, of depth."""
    if config.former in ("3d", "geometry"):
        return config.num_frames * config.latents_per_frame
    each = math.prod(pooled_grid(config)) if config.former == "none" else config.latents_per_frame
    return config.num_frames * each + config.geometry_tokens


def grid_of(config: PolicyConfig) -> tuple[int, int]:
    """Rows and columns of a frame's features. Raises ValueError where the config does not say them."""
    if config.grid is None:
        raise ValueError("the policy's config has no grid; without a world, it must say the features' rows and columns")
    return config.grid


def pooled_grid(config: PolicyConfig) -> tuple[int, int]:
    """Rows and columns that `Pooled` leaves of them."""
    rows, columns = grid_of(config)
    return min(_POOLED, rows), min(_POOLED, columns)


class Pooled(nn.Module):
    """Average features over cells of their grid, at most 16 a frame: what stands in for a former."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.grid, self.cells = grid_of(config), pooled_grid(config)
        self.project = nn.Linear(len(config.feature_mean), config.dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T n, D)."""
        maps = features.flatten(0, 1).transpose(1, 2).unflatten(2, self.grid)
        pooled = F.adaptive_avg_pool2d(maps, self.cells).flatten(2).transpose(1, 2)
        return self.project(pooled.to(self.project.weight.dtype)).unflatten(0, features.shape[:2]).flatten(1, 2)


def standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 (..., C): values less their mean, over their standard deviation, or over 1 where it is zero."""
    return ((values.float() - mean) / nonzero_std(mean, std)).clamp(-_FARTHEST, _FARTHEST)
