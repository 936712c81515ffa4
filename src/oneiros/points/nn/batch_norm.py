"""Batch normalisation as Keras does it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """x (N, C) normalised over its N rows, then scaled by `gamma` and shifted by `beta`.

    Unlike torch's, the running variance is the biased one, as the batch's is, and `momentum` is the share of the old:
    new = momentum * old + (1 - momentum) * batch. One row is allowed: it becomes `beta`.
    """

    def __init__(self, *, channels: int, momentum: float = 0.9, eps: float = 1e-3) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._follow(x)
            return torch.batch_norm(x, self.gamma, self.beta, None, None, True, 0.0, self.eps, False)
        return torch.batch_norm(x, self.gamma, self.beta, self.mean, self.var, False, 0.0, self.eps, False)

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        var, mean = torch.var_mean(x.to(self.mean.dtype), 0, correction=0)
        self.mean.lerp_(mean, 1 - self.momentum)
        self.var.lerp_(var, 1 - self.momentum)
