"""Random numbers of training, drawn for each sample of a batch by itself.

Legend: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class PerSample:
    """Random numbers that depend on each sample's own key alone, so batches may be cut and spread at will."""

    def __init__(self, seeds: Tensor) -> None:
        self.device = seeds.device
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    @classmethod
    def of(cls, seeds: Tensor | None, batch_size: int, device: torch.device) -> PerSample:
        """By the samples' keys (B,) or, where a loop of one's own gave none, by keys from torch's generator."""
        return cls(torch.randint(2**63 - 1, (batch_size,)).to(device) if seeds is None else seeds)

    def uniform(self, count: int) -> Tensor:
        """(B, count) in [0, 1)."""
        return torch.stack([torch.rand(count, generator=g) for g in self.generators]).to(self.device)

    def normal(self, count: int) -> Tensor:
        """(B, count), mean 0 and standard deviation 1."""
        return torch.stack([torch.randn(count, generator=g) for g in self.generators]).to(self.device)

    def less_than(self, probability: float) -> Tensor:
        """bool (B,), True with the given probability."""
        return self.uniform(1)[:, 0] < probability
