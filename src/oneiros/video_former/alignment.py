"""Alignment of a Video Former's geometry with features of a teacher (Spatial Forcing, arXiv 2510.12276, MIT).

A teacher gives features (B, T, N, G) of the same clip: cached ones of VGGT, or a point encoder's, of the cloud behind
each frame's depth, brought back to the image grid.

Legend: B batch, T frames, N features of a frame, Q extra tokens, G width of geometry.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment_loss(geometry: Tensor, teacher: Tensor, *, mask: Tensor | None = None, weight: float = 0.5) -> Tensor:
    """`weight` times the mean of 1 - cosine(geometry, teacher), a scalar.

    geometry: (B, T, N + Q, G), of which the first N are aligned. teacher: (B, T, N, G); takes no gradients. mask: bool
    (B, T) or (B, T, N), True = counted; what is not counted may hold anything. Zero where nothing counts.
    Raises ValueError for shapes that do not match.
    """
    aligned = geometry[:, :, : teacher.shape[2]] if teacher.ndim == geometry.ndim == 4 else geometry
    if teacher.ndim != 4 or aligned.shape != teacher.shape:
        raise ValueError(
            f"geometry has shape {tuple(geometry.shape)} and teacher {tuple(teacher.shape)}; (B, T, N + extra, G) and "
            "(B, T, N, G) are needed"
        )
    counted = torch.ones(teacher.shape[:3], dtype=torch.bool, device=teacher.device) if mask is None else mask
    if counted.dtype != torch.bool or counted.shape not in (teacher.shape[:2], teacher.shape[:3]):
        raise ValueError(
            f"mask is {counted.dtype} {tuple(counted.shape)}; bool {tuple(teacher.shape[:2])} or "
            f"{tuple(teacher.shape[:3])} is needed"
        )
    distance = 1 - F.cosine_similarity(_wide(aligned[counted]), _wide(teacher[counted].detach()), dim=-1)
    return weight * distance.sum() / max(distance.numel(), 1)


def _wide(x: Tensor) -> Tensor:
    """Sums over widths of thousands need more digits than half precision has."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
