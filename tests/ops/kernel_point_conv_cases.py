"""One table of cases for every implementation of kernel point convolution."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """Sizes: points, queries, neighbours, kernel points, channels, modulations per kernel point (None: none at all)."""

    name: str
    sizes: tuple[int, int, int, int, int, int | None]
    missing: float = 0.2
    dim: int = 3
    influence: str = "linear"
    sigma: float = 1.2
    spread: float = 1.0

    def tensors(self, dtype: torch.dtype = torch.float64) -> list:
        """The first eight arguments of `kernel_point_conv`."""
        num_points, num_queries, num_neighbors, num_kernel_points, channels, groups = self.sizes
        generator = torch.Generator().manual_seed(len(self.name) + sum(size or 0 for size in self.sizes))

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        shape = num_queries, num_neighbors
        neighbors = torch.randint(0, max(num_points, 1), shape, generator=generator)
        absent = torch.rand(shape, generator=generator) < (self.missing if num_points else 2)
        # Both ways of saying that there is none.
        none = torch.where(torch.rand(shape, generator=generator) < 0.5, -1, num_points)
        return [
            normal(num_points, self.dim) * self.spread,
            normal(num_queries, self.dim) * self.spread,
            torch.where(absent, none, neighbors),
            normal(num_kernel_points, self.dim) * 0.7,
            self.sigma,
            normal(num_kernel_points, channels),
            None if groups is None else normal(num_queries, num_kernel_points, groups),
            normal(num_points, channels),
        ]


CASES = [
    Case("ordinary", (40, 33, 7, 15, 16, 2)),
    Case("groups of eight, channels no power of two", (40, 20, 6, 9, 24, 3)),
    Case("every channel its own modulation", (20, 20, 5, 9, 12, 12)),
    Case("one modulation for all", (20, 20, 5, 9, 12, 1)),
    Case("groups of three", (20, 20, 5, 9, 15, 5)),
    Case("no modulations", (40, 30, 7, 15, 16, None)),
    Case("odd channels without modulations", (20, 20, 5, 9, 13, None)),
    Case("more channels than a tile", (20, 18, 4, 9, 144, 18)),
    Case("more neighbours than a list", (30, 20, 100, 9, 8, 1)),
    Case("more queries than points", (10, 50, 6, 9, 8, 1)),
    Case("all neighbours missing", (20, 20, 5, 9, 8, 1), missing=1.1),
    Case("one of each", (1, 1, 1, 1, 1, 1), missing=0),
    Case("no queries", (20, 0, 5, 9, 8, 1)),
    Case("no points", (0, 20, 5, 9, 8, 1)),
    Case("no neighbours", (20, 20, 0, 9, 8, 1)),
    Case("one kernel point", (20, 20, 5, 1, 8, 1)),
    Case("all out of reach", (20, 20, 5, 9, 8, 1), spread=100),
    Case("all in one place", (20, 20, 5, 9, 8, 1), spread=0),
    Case("gaussian", (20, 20, 5, 9, 8, 1), influence="gaussian"),
    Case("constant", (20, 20, 5, 9, 8, 1), influence="constant"),
    Case("negative sigma", (20, 20, 5, 9, 8, 1), sigma=-0.7),
    Case("negative sigma, gaussian", (20, 20, 5, 9, 8, 1), sigma=-0.7, influence="gaussian"),
    Case("plane", (20, 20, 5, 9, 8, 1), dim=2),
    Case("four dimensions", (20, 20, 5, 9, 8, 1), dim=4),
]
