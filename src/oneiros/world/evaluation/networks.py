"""LPIPS and FVD through networks that the user brings: their weights are not ours to ship.

A network is a Python function named as `module:function`, found on the path or in the current folder.
docs/metrics.md shows one for each measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oneiros.data.frames import to_model

_CHUNK = 64  # frames a call


@dataclass(frozen=True)
class Networks:
    """lpips: two batches of frames (M, 3, H, W) in [-1, 1] -> their distances (M,).
    video_features: clips (M, T, 3, H, W) in [-1, 1] -> features (M, D), as of the I3D network of FVD."""

    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    video_features: Callable[[Tensor], Tensor] | None = None


@torch.no_grad()
def lpips(network: Callable[[Tensor, Tensor], Tensor], dreamed: Tensor, real: Tensor) -> Tensor:
    """Perceptual distance of each frame (Zhang et al. 2018), lower is closer: uint8 (B, H, h, w, 3) -> float (B, H)."""
    pairs = zip(dreamed.flatten(0, 1).split(_CHUNK), real.flatten(0, 1).split(_CHUNK), strict=True)
    distances = torch.cat([network(to_model(a), to_model(b)).reshape(-1).float().cpu() for a, b in pairs])
    if distances.numel() != dreamed[..., 0, 0, 0].numel():
        raise ValueError(
            f"the LPIPS network returned {distances.numel()} distances for {len(dreamed.flatten(0, 1))} pairs"
        )
    return distances.reshape(dreamed.shape[:2])


@torch.no_grad()
def video_features(network: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """uint8 clips (B, T, h, w, 3) -> features (B, D)."""
    features = network(to_model(clips)).float().cpu()
    if features.ndim != 2 or len(features) != len(clips):
        raise ValueError(
            f"the video network returned {tuple(features.shape)} for {len(clips)} clips; it must be (M, D)"
        )
    return features
