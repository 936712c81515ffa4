"""Drawing codes from logits: guidance, min-p, top-k, temperature, Gumbel-max.

Legend: B batch, m codes drawn together, K codebook size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from oneiros.sampling import Sampling


def guide(conditional: Tensor, unconditional: Tensor, *, scale: float, parallel_keep_fraction: float = 0.0) -> Tensor:
    """Push logits away from what would happen without the action (adaptive projected guidance, arXiv 2410.02416).

    conditional, unconditional: (B, ...) logits. The difference of the two is split into its part parallel to the
    conditional logits, over all entries of one batch element and in float64, and the orthogonal rest; only
    `parallel_keep_fraction` of the parallel part is kept, which spares the logits an overall rescaling.
    Returns logits like `conditional`; at scale 1 they are `conditional`.
    """
    if conditional.shape != unconditional.shape:
        raise ValueError(f"guidance needs equal shapes, got {(*conditional.shape,)} and {(*unconditional.shape,)}")
    reference = conditional.flatten(1).double()
    update = reference - unconditional.flatten(1).double()
    direction = torch.nn.functional.normalize(reference, dim=1)
    parallel = (update * direction).sum(1, keepdim=True) * direction
    update = parallel_keep_fraction * parallel + (update - parallel)
    return (reference + (scale - 1) * update).view_as(conditional).to(conditional.dtype)


def min_p_mask(logits: Tensor, min_p: float) -> Tensor:
    """True for the codes that are kept: at least `min_p` times as probable as the most probable (arXiv 2407.01082).

    logits: (..., K). Returns bool (..., K), with at least one True a row.
    """
    return logits >= logits.amax(-1, keepdim=True) + math.log(max(min_p, 1e-30))


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator | None, codebook: Tensor) -> Tensor:
    """One code for each row of logits (..., K), guidance already applied; codebook (K, C). Returns int64 (...)."""
    if sampling.temperature == 0 and sampling.estimate == "mean":
        expected = logits.softmax(-1) @ codebook
        return torch.cdist(expected.flatten(0, -2), codebook).argmin(-1).view(logits.shape[:-1])
    if sampling.temperature == 0:
        return logits.argmax(-1)
    kept = min_p_mask(logits, sampling.min_p)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        kept &= logits >= logits.topk(sampling.top_k, dim=-1).values[..., -1:]
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp_(1e-20, 1 - 1e-7)
    negative_gumbel = uniform.log_().neg_().log_()
    scores = (logits / sampling.temperature).sub_(negative_gumbel)
    return torch.where(kept, scores, -torch.inf).argmax(-1)


def chooser(
    sampling: Sampling, generator: torch.Generator | None, batch_size: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """What draws codes as `sampling` says: (logits (B', ..., K), codebook (K, C)) -> int64 (B, ...). Where B' is 2B,
    the second half are those of unknown actions, from which the first is guided away."""

    def choose(logits: Tensor, codebook: Tensor) -> Tensor:
        if len(logits) > batch_size:
            logits = guide(
                logits[:batch_size],
                logits[batch_size:],
                scale=sampling.guidance_scale,
                parallel_keep_fraction=sampling.parallel_keep_fraction,
            )
        return draw(logits, sampling, generator, codebook)

    return choose
