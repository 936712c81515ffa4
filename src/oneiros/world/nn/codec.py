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
    """Convolutional encoder and decoder, 8 pixels to a latent: to a quarter at once, then to an eighth.

    linear_path: the networks add to a linear map of each patch of 8 x 8 pixels and back. Once it is set to the patches'
    principal components (`begin`), a codec starts where one without has come after minutes of training.
    reference_frame: the decoder is shown an earlier frame too, and draws a mask through which that one shows.
    """

    temporal_stride = 1
    latent_channel_first = True
    SPATIAL_STRIDE = 8

    def __init__(
        self,
        *,
        channels: int = 3,
        latent_dim: int = 32,
        width: int = 64,
        depth: int = 2,
        linear_path: bool = False,
        reference_frame: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.reference_frame = channels, reference_frame
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=4),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 2, stride=2),
            *(ResidualBlock(2 * width) for _ in range(depth)),
            nn.SiLU(),
            nn.Conv2d(2 * width, latent_dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_dim * (1 + reference_frame), 2 * width, 3, padding=1),
            *(ResidualBlock(2 * width) for _ in range(depth)),
            nn.Conv2d(2 * width, 4 * width, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 1),
            nn.PixelShuffle(2),
            ResidualBlock(width // 2),
            nn.SiLU(),
            nn.Conv2d(width // 2, 4 * (channels + reference_frame), 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.patch_to_latent = self.latent_to_patch = None
        if linear_path:
            self.patch_to_latent = nn.Conv2d(channels, latent_dim, self.SPATIAL_STRIDE, stride=self.SPATIAL_STRIDE)
            self.latent_to_patch = nn.Conv2d(latent_dim, channels * self.SPATIAL_STRIDE**2, 1)
            for last in (self.encoder[-1], self.decoder[-2]):
                nn.init.zeros_(last.weight)  # type: ignore[arg-type]
                nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, channels, H, W) in [-1, 1] -> (B, T, C, H/8, W/8)."""
        flat = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        latents = self.encoder(flat)
        if self.patch_to_latent is not None:
            latents = latents + self.patch_to_latent(flat)
        return latents.unflatten(0, frames.shape[:2])

    def decode(self, latents: Tensor, reference: Tensor | None = None) -> Tensor:
        """(B, T, C, h, w) -> (B, T, channels, 8h, 8w), nominally in [-1, 1], in the decoder's type of numbers.

        reference: an earlier frame (B, 1, channels, 8h, 8w), for a codec that is shown one; None is a grey one, which
        says nothing.
        """
        shape = latents.shape[:2]
        flat = seen = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if self.reference_frame:
            if reference is None:
                size = [self.SPATIAL_STRIDE * side for side in latents.shape[-2:]]
                reference = latents.new_zeros(1, 1, self.channels, *size)
            of_reference = self.encode(reference).expand(*shape, -1, -1, -1).flatten(0, 1)
            seen = torch.cat([flat, of_reference], 1).contiguous(memory_format=torch.channels_last)
        drawn = self.decoder(seen.to(next(self.decoder.parameters()).dtype))
        frames = drawn[:, : self.channels]
        if self.latent_to_patch is not None:
            frames = frames + F.pixel_shuffle(self.latent_to_patch(flat), self.SPATIAL_STRIDE)
        if reference is not None and self.reference_frame:
            shown = drawn[:, self.channels :].sigmoid()
            frames = frames + shown * (reference.expand(*shape, -1, -1, -1).flatten(0, 1) - frames)
        return frames.unflatten(0, shape)

    @torch.no_grad()
    def begin(self, frames: Tensor) -> None:
        """Set the linear path, if there is one, to the principal components of the patches of frames (B, T, channels,
        H, W): the best that can be done linearly. The components keep their lengths, so that distances between latents
        are distances between patches."""
        if self.patch_to_latent is None or self.latent_to_patch is None:
            return
        patches = F.pixel_unshuffle(frames.flatten(0, 1), self.SPATIAL_STRIDE).movedim(1, -1).flatten(0, 2).double()
        mean = patches.mean(0)
        components = torch.linalg.eigh((patches - mean).T @ (patches - mean)).eigenvectors.flip(1)
        components = components[:, : self.patch_to_latent.out_channels]  # (channels * 64, at most C)
        for parameter in (*self.patch_to_latent.parameters(), *self.latent_to_patch.parameters()):
            parameter.zero_()
        kept = components.shape[1]
        self.patch_to_latent.weight[:kept] = components.T.view(kept, *self.patch_to_latent.weight.shape[1:]).float()
        self.patch_to_latent.bias[:kept] = -(components.T @ mean).float()  # type: ignore[index]
        self.latent_to_patch.weight[:, :kept, 0, 0] = components.float()
        self.latent_to_patch.bias.copy_(mean)  # type: ignore[union-attr]


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
