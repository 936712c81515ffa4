"""Random masks of frames, and what stands in the place of masked frames.

Legend: B batch, T frames, N features of a frame, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("zero", "gaussian", "learnable", "none")
SPREAD = 2.0  # frames, of the bell that says which are dropped most often


def draw_frame_mask(
    batch: int, num_frames: int, *, probability: float, device: torch.device | str | None = None
) -> Tensor:
    """Bool (B, T), True = keep, drawn from torch's generator; see `kept_frames`."""
    return kept_frames(torch.rand(batch, num_frames + 1, device=device), probability)


def kept_frames(drawn: Tensor, probability: float) -> Tensor:
    """Bool (B, T), True = keep, from numbers (B, T + 1) drawn evenly from [0, 1).

    Frame i is dropped with `probability` times a bell of 1 around the middle of the clip. The middle is frame 6 of 14,
    as in the reference, and frame T // 2 of any other number. A sample that would lose all frames keeps one of them, by
    the last number drawn.
    """
    num_frames = drawn.shape[1] - 1
    middle = 6 if num_frames == 14 else num_frames // 2
    bell = torch.exp(-0.5 * ((torch.arange(num_frames, device=drawn.device) - middle) / SPREAD).square())
    kept = drawn[:, :-1] >= probability * bell
    saved = F.one_hot((drawn[:, -1] * num_frames).long(), num_frames).bool()
    return kept | (saved & ~kept.any(1, keepdim=True))


def hide_frames(x: Tensor, frame_mask: Tensor, *, mode: str, token: Tensor | None) -> Tensor:
    """x (B, T, N, D) with what `mode`, one of `MODES`, puts in the place of frames that are not kept.

    frame_mask: bool (B, T), True = keep. token: broadcastable to x, for "learnable".
    """
    if mode == "none":
        return x
    kept = frame_mask[..., None, None]
    if mode == "learnable":
        assert token is not None
        return torch.where(kept, x, token.to(x.dtype))
    return torch.where(kept, x, torch.randn_like(x) if mode == "gaussian" else 0.0)


def check_frame_mask(frame_mask: Tensor) -> None:
    """ValueError for a (B, T) mask of other numbers, or a row of it that keeps nothing."""
    if frame_mask.dtype != torch.bool:
        raise ValueError(f"frame_mask is {frame_mask.dtype}; torch.bool, True = keep, is needed")
    empty = ~frame_mask.any(1)
    if empty.any():
        raise ValueError(f"frame_mask[{int(empty.nonzero()[0])}] keeps no frame; at least one is needed")
