"""Codecs that the user brings, named on the command line as `module:factory`; `codec` says what a codec is.

Only a name that the user gave is imported, never one that stands in a run folder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from oneiros.imports import find_function


def make_codec(name: str | None) -> nn.Module | None:
    """What the factory `module:factory`, found on the path or in the current folder, makes; None for no name.

    Raises ValueError, in one line, where there is none or it makes no codec.
    """
    if name is None:
        return None
    codec: Any = find_function(name)()
    if not isinstance(codec, nn.Module) or not (hasattr(codec, "encode") and hasattr(codec, "decode")):
        raise ValueError(
            f"{name} makes a {type(codec).__name__}; a codec is a torch.nn.Module with encode(frames) and "
            "decode(latents), see oneiros.world.nn.codec"
        )
    return codec


def latents_of(codec: Any, frames: Tensor) -> Tensor:
    """Frames (B, T, channels, H, W) -> latents (B, T', C, h, w), whichever way the codec orders them."""
    latents = codec.encode(frames)
    return latents if getattr(codec, "latent_channel_first", True) else latents.movedim(-1, 2)


@torch.no_grad()
def blank_latents(codec: Any, channels: int, height: int, width: int) -> Tensor:
    """The latents (1, 1, C, h, w) of a grey frame, by whose shape a codec's sizes are told. Raises ValueError for a
    frame of a size that the codec does not take, or latents of another shape."""
    stride = getattr(codec, "SPATIAL_STRIDE", 1)
    if height % stride or width % stride:
        raise ValueError(f"frames are {height} x {width}; both must be multiples of {stride}")
    parameter = next(codec.parameters(), torch.zeros(()))
    latents = latents_of(codec, parameter.new_zeros(1, 1, channels, height, width))
    if latents.ndim != 5 or latents.shape[:2] != (1, 1):
        raise ValueError(
            f"the codec makes latents {tuple(latents.shape)} of one frame; (1, 1, C, h, w) is needed, or with "
            "latent_channel_first = False (1, 1, h, w, C)"
        )
    return latents
