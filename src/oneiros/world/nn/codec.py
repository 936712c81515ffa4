"""Codecs: frames to latents and back. The default works frame by frame and is sized for a CPU.

A codec is any module with `encode(frames) -> latents (B, T', C, h, w)`, `decode(latents) -> frames`, and the attributes
`temporal_stride` (1 for image codecs) and `latent_channel_first` (False: latents are (B, T', h, w, C)). A video codec
of stride s has latent 0 for frame 0 and latent j for frames (j-1)s+1 .. js; its optional attribute `temporal_lookback`
says how many earlier latents decoding needs (1 if not given). `unbounded` frames are no pixels: they may leave [-1, 1].

Legend: B batch, T frames, C latent channels, H x W pixels, h x w latent grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImageCodec(nn.Module):
    """Convolutional encoder and decoder, 8 pixels to a latent: to a quarter at once, then to an eighth."""

    temporal_stride = 1
    latent_channel_first = True
    SPATIAL_STRIDE = 8

    def __init__(self, *, channels: int = 3, latent_dim: int = 32, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=4),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 2, stride=2),
            *(ResidualBlock(2 * width) for _ in range(depth)),
            nn.SiLU(),
            nn.Conv2d(2 * width, latent_dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_dim, 2 * width, 3, padding=1),
            *(ResidualBlock(2 * width) for _ in range(depth)),
            nn.Conv2d(2 * width, 4 * width, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 1),
            nn.PixelShuffle(2),
            ResidualBlock(width // 2),
            nn.SiLU(),
            nn.Conv2d(width // 2, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, channels, H, W) in [-1, 1] -> (B, T, C, H/8, W/8)."""
        flat = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.encoder(flat).unflatten(0, frames.shape[:2])

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, C, h, w) -> (B, T, channels, 8h, 8w), nominally in [-1, 1], in the decoder's type of numbers."""
        dtype = next(self.decoder.parameters()).dtype
        flat = latents.flatten(0, 1).to(dtype, memory_format=torch.channels_last)
        return self.decoder(flat).unflatten(0, latents.shape[:2])


class ResidualBlock(nn.Module):
    """Two convolutions around a residual that starts as the identity, which spares a normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class IdentityCodec(nn.Module):
    """Frames are latents already: for training on precomputed latents."""

    temporal_stride = 1
    latent_channel_first = True
    unbounded = True

    def encode(self, frames: Tensor) -> Tensor:
        return frames

    def decode(self, latents: Tensor) -> Tensor:
        return latents


class CausalTemporalConv(nn.Module):
    """A bias-free convolution along time alone; latent t never sees t + 1. Starts as the identity."""

    def __init__(self, *, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(kernel_size, dim, dim))
        with torch.no_grad():
            self.weight[-1] = torch.eye(dim)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, T, C, h, w) -> the same shape; zeros stand for latents before the first."""
        kernel = len(self.weight)
        padded = F.pad(latents, (0, 0, 0, 0, 0, 0, kernel - 1, 0))
        windows = padded.unfold(1, kernel, 1)  # (B, T, C, h, w, kernel)
        return torch.einsum("btchwk,kdc->btdhw", windows, self.weight)
