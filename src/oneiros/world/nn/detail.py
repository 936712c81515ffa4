"""What a codec leaves out of the last real frame, kept in a dream for as long as nothing moves over it.

Legend: B batch, T frames, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

_BLUR = 5  # pixels over which a change is averaged, so that detail goes and stays in patches


@dataclass(frozen=True)
class Detail:
    """A real frame as its codes decode, and what that lacks: both (B, 1, C, H, W)."""

    decoded: Tensor
    missing: Tensor

    @classmethod
    def of(cls, frame: Tensor, decoded: Tensor) -> Detail:
        """What a real frame has and its decoded codes lack: both (B, 1, C, H, W)."""
        return cls(decoded, frame - decoded)

    def added_to(self, frames: Tensor, scale: float) -> Tensor:
        """Dreamed frames (B, T, C, H, W) with the missing detail, where they decode as the real one did.

        scale: of pixel values in [-1, 1]; where a frame differs by that much, the detail has faded to 1/e.
        """
        change = (frames - self.decoded).abs().mean(2, keepdim=True)
        change = F.avg_pool2d(change.flatten(0, 1), _BLUR, 1, _BLUR // 2, count_include_pad=False).view_as(change)
        return (frames + self.missing * (-change / scale).exp()).clamp(-1, 1)
