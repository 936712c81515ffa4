"""Frames as a vector that says what is there and where: for policies without a world.

Legend: B batch, O frames, C channels, H x W pixels, K keypoints, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKENS = 1 + 4 * 4  # that `ImageEncoder.tokens` makes
_WIDTHS = (1, 2, 4, 4)  # channels of each stage, in units of the first's


class ImageEncoder(nn.Module):
    """Residual convolutions on stacked frames; where each channel is strongest, and a small map of what is there.

    channels: C O, of the stacked frames. width: channels of the first stage. dim: D. size: (H, W). places: also
    make a token of each of 4 x 4 places, see `tokens`.
    """

    def __init__(
        self, *, channels: int, size: tuple[int, int], width: int = 48, dim: int = 256, places: bool = False
    ) -> None:
        super().__init__()
        if min(size) < 16:
            raise ValueError(f"frames are {size[0]} x {size[1]}; at least 16 x 16 pixels are needed")
        widths = [width * times for times in _WIDTHS]
        self.enter = nn.Conv2d(channels, widths[0], 5, stride=2, padding=2)
        self.stages = nn.ModuleList(
            ResidualStage(before, after, stride=2 if index in (1, 2) else 1)
            for index, (before, after) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.norm = nn.GroupNorm(8, widths[-1])
        self.keypoints = nn.Conv2d(widths[-1], 2 * width, 1)
        self.squeeze = nn.Conv2d(widths[-1], width, 1)
        self.temperature = nn.Parameter(torch.zeros(()))
        self.leave = nn.Linear(2 * 2 * width + 16 * width, dim)
        self.place = nn.Linear(widths[-1], dim) if places else None

    def forward(self, frames: Tensor) -> Tensor:
        """frames (B, O, C, H, W) in [-1, 1] -> (B, D)."""
        return self._vector(self._maps(frames))

    def tokens(self, frames: Tensor) -> Tensor:
        """frames (B, O, C, H, W) -> (B, 17, D): the vector, and what is at each of 4 x 4 places."""
        assert self.place is not None
        x = self._maps(frames)
        there = self.place(F.adaptive_avg_pool2d(x, (4, 4)).flatten(2).transpose(1, 2))
        return torch.cat([self._vector(x)[:, None], there], 1)

    def _maps(self, frames: Tensor) -> Tensor:
        x = self.enter(frames.flatten(1, 2))
        for stage in self.stages:
            x = stage(x)
        return F.silu(self.norm(x))

    def _vector(self, x: Tensor) -> Tensor:
        places = spatial_softmax(self.keypoints(x), self.temperature.exp())
        around = F.adaptive_avg_pool2d(self.squeeze(x), (4, 4)).flatten(1)
        return self.leave(torch.cat([places.to(around.dtype), around], 1))


class ResidualStage(nn.Module):
    """Two convolutions, each after its norm, beside a shortcut."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(8, before), nn.GroupNorm(8, after)
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after and stride == 1 else nn.Conv2d(before, after, 1, stride=stride)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.first(F.silu(self.first_norm(x)))
        return self.shortcut(x) + self.second(F.silu(self.second_norm(branch)))


def spatial_softmax(maps: Tensor, sharpness: Tensor | float = 1.0) -> Tensor:
    """Where each map is strongest: (B, K, h, w) -> (B, 2 K), rows and columns in [-1, 1] (arXiv 1509.06113)."""
    height, width = maps.shape[-2:]
    weights = (maps.flatten(2).float() * sharpness).softmax(-1).unflatten(2, (height, width))
    rows = torch.linspace(-1, 1, height, device=maps.device)
    columns = torch.linspace(-1, 1, width, device=maps.device)
    return torch.cat([weights.sum(3) @ rows, weights.sum(2) @ columns], 1)
