"""Scaled dot product attention, and the checks of sizes that layers share.

Legend: B batch, N queries, M keys, H heads, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """softmax(scale q k + mask) v: query (B, H, N, d), key and value (B, H, M, d) -> (B, H, N, d).

    mask: added to the scores, (N, M) or (B, 1, N, M), of their type. scale: 1 / sqrt(d) unless given. On CPUs products
    in bf16 are fast, but torch's fused kernel does not use them: with the scores written out, forward and backward were
    measured 1.5 to 5 times as fast there.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    alpha = query.shape[-1] ** -0.5 if scale is None else scale
    added, beta = (q.new_zeros(()), 0) if mask is None else (mask, 1)
    if added.ndim == 4:
        added = added.expand(*query.shape[:3], -1).flatten(0, 1)
    scores = torch.baddbmm(added, q, k.transpose(1, 2), beta=beta, alpha=alpha)
    return (scores.softmax(-1) @ v).unflatten(0, query.shape[:2])


def check_counts(counts: Mapping[str, Any], *, most: int = 2**20) -> None:
    """ValueError for one that is not a whole number of at least 1, or that is beyond any use."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if value > most:
            raise ValueError(f"{name} is {value}; it must be at most {most}")


def check_divides(part: str, count: int, whole: str, total: int) -> None:
    """ValueError where `count` does not divide `total`, with the totals that would do."""
    if total % count:
        below = total // count * count
        near = " or ".join(str(fitting) for fitting in (below, below + count) if fitting)
        raise ValueError(f"{whole} is {total}, which {part}, {count}, does not divide; {near} would do")
