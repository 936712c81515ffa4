"""Changed copies of clips, so that a few episodes cannot be learned by heart.

Shifts as in DrQ (arXiv 2004.13649, section 3), with brightness and tint. A clip is changed as one: what moves in it,
and what its actions do, stays as it was.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from oneiros.records import Clip, CodeClip

_SHIFT = 0.1  # of height and width, at most
_BRIGHTNESS, _TINT, _OFFSET = 0.25, 0.1, 0.08  # largest log gain of all channels, of one, and largest value added


def augmented(batch: Clip | CodeClip) -> Clip:
    """A batch of frames, each clip changed by its own seed. ValueError for codes, which cannot be changed."""
    if isinstance(batch, CodeClip) or batch.seeds is None:
        raise ValueError("only clips of frames, with seeds, can be shifted and recoloured")
    return replace(batch, frames=augment(batch.frames, batch.seeds))


def augment(frames: Tensor, seeds: Tensor) -> Tensor:
    """Frames (B, T, C, H, W) in [-1, 1], each clip shifted and recoloured by chance.

    seeds: int64 (B,), which decide the change of each clip, whatever else is in the batch. Pixels shifted in repeat the
    edge; channels after the third (depth) are shifted only.
    """
    return torch.stack([_changed(clip, int(seed)) for clip, seed in zip(frames, seeds, strict=True)])


def _changed(clip: Tensor, seed: int) -> Tensor:
    """(T, C, H, W) -> the same shape."""
    drawn = torch.rand(9, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).to(clip.device)
    height, width = clip.shape[-2:]
    rows = _shifted(height, float(drawn[0]), clip.device)
    columns = _shifted(width, float(drawn[1]), clip.device)
    clip = clip[..., rows, :][..., columns]
    gain = (_BRIGHTNESS * drawn[2] + _TINT * drawn[3:6])[:, None, None].exp()
    colour = (clip[:, :3] + 1) * gain - 1 + 2 * _OFFSET * drawn[6:9, None, None]
    return torch.cat([colour.clamp(-1, 1), clip[:, 3:]], 1)


def _shifted(size: int, amount: float, device: torch.device) -> Tensor:
    """Which of `size` places each place is read from; amount in [-1, 1]."""
    return (torch.arange(size, device=device) + round(amount * _SHIFT * size)).clamp(0, size - 1)
