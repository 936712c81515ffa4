"""Cross-entropy over a codebook scored by distance, without ever holding all logits.

Legend: R rows (codes to predict), C width of a codebook vector, K codebook size.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_PER_CHUNK = 256  # 256 x 512 float32 logits stay in a core's cache; a whole batch's would cross memory ten times
MIN_SQUARED = 1e-6  # keeps the root's gradient finite for a query that lies on a code


def distance_logits(query: Tensor, codebook: Tensor, scale: Tensor) -> Tensor:
    """query (..., C), codebook (K, C), scale () -> float32 logits (..., K): negative distance times the scale."""
    with torch.autocast(query.device.type, enabled=False):  # squared distances in bf16 would cancel to noise
        return -scale * _distances(query.flatten(0, -2).float(), codebook).unflatten(0, query.shape[:-1])


def neighbourly_targets(codebook: Tensor, spread: float) -> Tensor:
    """What a code's target becomes when codes near it share it: (K, C) -> (K, K), rows sum to 1.

    A code at distance d gets exp(-(d / spread)^2 / 2) as much as the code itself; spread 0 is the identity. Codes lie
    dense where frames are textured and sparse elsewhere; without sharing, textures split their probability over many
    near-equal codes, and the likeliest single code is a flat one that stands alone.
    """
    if spread == 0:
        return torch.eye(len(codebook), device=codebook.device)
    return (torch.cdist(codebook, codebook).square() / (-2 * spread**2)).softmax(-1)


def distance_cross_entropy(
    query: Tensor, codebook: Tensor, log_scale: Tensor, code: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `distance_logits` for each row, and whether its code was the likeliest.

    query (R, C), codebook (K, C), log_scale (), code int64 (R,), targets (K, K), the target distribution of each code
    -> float32 (R,), bool (R,). Gradients reach query and log_scale; they are formed chunk by chunk in the forward pass,
    where the logits are at hand.
    """
    with torch.autocast(query.device.type, enabled=False):
        losses, hits = _DistanceCrossEntropy.apply(query.float(), codebook, log_scale, code, targets)  # type: ignore[misc]
    return losses, hits


def _distances(query: Tensor, codebook: Tensor) -> Tensor:
    norms = codebook.square().sum(-1) + query.square().sum(-1, keepdim=True)
    return torch.addmm(norms, query, codebook.T, alpha=-2).clamp_min_(MIN_SQUARED).sqrt_()


class _DistanceCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, codebook: Tensor, log_scale: Tensor, code: Tensor, targets: Tensor):
        scale = log_scale.exp()
        losses, hits = query.new_empty(len(query)), torch.empty(len(query), dtype=torch.bool, device=query.device)
        query_grad, scale_grad = torch.empty_like(query), query.new_empty(len(query))
        rows = ROWS_PER_CHUNK if query.device.type == "cpu" else max(len(query), 1)
        for first in range(0, len(query), rows):
            part = slice(first, first + rows)
            q, target = query[part], targets[code[part]]
            distance = _distances(q, codebook)
            logits = distance * -scale
            hits[part] = logits.argmax(-1) == code[part]
            losses[part] = logits.logsumexp(-1) - torch.linalg.vecdot(target, logits)
            excess = logits.softmax(-1).sub_(target)  # d loss / d logits
            scale_grad[part] = torch.linalg.vecdot(excess, logits)
            pull = excess.div_(distance).mul_(-scale)
            query_grad[part] = torch.addmm(q * pull.sum(-1, keepdim=True), pull, codebook, alpha=-1)
        ctx.save_for_backward(query_grad, scale_grad)
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx, losses_grad: Tensor, _: Tensor):
        query_grad, scale_grad = ctx.saved_tensors
        return query_grad * losses_grad[:, None], None, scale_grad @ losses_grad, None, None
