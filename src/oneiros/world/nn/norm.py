"""Root-mean-square norm (arXiv 1910.07467)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


def rms_norm(x: Tensor) -> Tensor:
    """x (..., D) over the root of the mean of its squares along D.

    torch's own has no fused backward on CPUs; this one, in as few passes as torch's operations allow, was measured 2.5x
    to 5x faster there, forward and backward (in bf16 the divisor is rounded like everything else). What is exported
    takes torch's, which other runtimes know.
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.rms_norm(x, x.shape[-1:], eps=EPSILON)
    return _RMSNorm.apply(x)  # type: ignore[return-value]


class RMSNorm(nn.Module):
    """`rms_norm` with a learned gain for each channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x) * self.weight.to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        inverse = norm.square_().div_(x.shape[-1]).add_(EPSILON).rsqrt_().to(x.dtype)
        normed = x * inverse
        ctx.save_for_backward(normed, inverse)
        return normed

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        normed, inverse = ctx.saved_tensors
        along = (grad * normed).mean(-1, keepdim=True)
        return torch.addcmul(grad, normed, along, value=-1).mul_(inverse)
