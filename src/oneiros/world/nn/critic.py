"""A critic that tells real frames from drawn ones patch by patch, for a decoder to learn sharpness from.

Sources: PatchGAN (arXiv 1611.07004), hinge loss (arXiv 1705.02894), feature matching (arXiv 1606.03498).

Legend: B frames, C channels, H x W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAK = 0.2  # of the activations
_CONTRAST = 8.0


class PatchCritic(nn.Module):
    """Scores of patches of about 22 x 22 pixels, every fourth pixel: above 0 real, below 0 drawn."""

    def __init__(self, channels: int, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(2 * channels, width, 4, stride=2, padding=1),
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            ]
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, a=_LEAK)  # type: ignore[arg-type]
        self.score = nn.Conv2d(2 * width, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frames: Tensor, plain: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Frames (B, C, H, W), and the same as the decoder drew them before it was to be sharp -> scores
        (B, 1, H/4, W/4), and what each layer saw."""
        added = _CONTRAST * (frames - plain)  # by itself faint beside the frame
        x, seen = torch.cat([added, plain], 1).contiguous(memory_format=torch.channels_last), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), _LEAK)
            seen.append(x)
        return self.score(x), seen
