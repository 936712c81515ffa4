"""Where the kernel points of a convolution lie: on shells around the centre.

All functions return float64 (m, D), rows in order of the shells, so that a layer of any precision can round them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def fibonacci(shell_radii: Sequence[float], shell_points: Sequence[int]) -> Tensor:
    """Shells of radius `shell_radii[s]` in metres with `shell_points[s]` points on a Fibonacci lattice: (m, 3).

    Point j of n has height z = 1 - (2 j + 1) / n and azimuth j times the golden angle, times the radius. Deterministic.
    Raises ValueError for shells that `check_shells` refuses.
    """
    check_shells(shell_radii, shell_points)
    return torch.cat([radius * _lattice(count) for radius, count in zip(shell_radii, shell_points, strict=True)])


def _lattice(count: int) -> Tensor:
    """`count` points on the unit sphere (count, 3)."""
    number = torch.arange(count, dtype=torch.float64)
    z = 1 - (2 * number + 1) / count
    across, azimuth = (1 - z.square()).sqrt(), number * GOLDEN_ANGLE
    return torch.stack([across * azimuth.cos(), across * azimuth.sin(), z], 1)


def repulsion(
    shell_radii: Sequence[float], shell_points: Sequence[int], *, seed: int = 0, num_steps: int = 600
) -> Tensor:
    """Shells whose points, drawn at random with `seed`, repel each other like charges until they rest: (m, 3).

    Every point feels all others, those of other shells too, and moves on its own shell (as the kernels of KPConvX,
    arXiv 2405.13194). Deterministic for a seed. Raises ValueError for shells that `check_shells` refuses.
    """
    check_shells(shell_radii, shell_points)
    radii = torch.tensor(shell_radii, dtype=torch.float64).repeat_interleave(torch.tensor(shell_points))[:, None]
    scale = radii.max().clamp_min(torch.finfo(torch.float64).tiny)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(radii), 3, dtype=torch.float64, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    for step in torch.logspace(-1, -6, num_steps, dtype=torch.float64):
        push = _force(directions * (radii / scale))
        push = push - (push * directions).sum(1, keepdim=True) * directions
        push = push * (radii > 0)
        strongest = push.norm(dim=1).max()
        if strongest == 0:
            break
        directions = directions + step * push / strongest
        directions /= directions.norm(dim=1, keepdim=True)
    return directions * radii


def _force(points: Tensor) -> Tensor:
    """Coulomb force on each point (m, 3) from all others; points at the same place do not push each other."""
    between = points[:, None] - points
    distance = between.norm(dim=2, keepdim=True)
    return torch.where(distance > 0, between / distance.pow(3), 0).sum(1)


def check_shells(shell_radii: Sequence[float], shell_points: Sequence[int]) -> None:
    """ValueError unless there is at least one shell, each with a finite radius of 0 or more and at least one point."""
    if not len(shell_radii) or len(shell_radii) != len(shell_points):
        raise ValueError(
            f"shell_radii has {len(shell_radii)} values and shell_points {len(shell_points)}; "
            "each shell needs one of both, and there must be at least one shell"
        )
    for shell, (radius, count) in enumerate(zip(shell_radii, shell_points, strict=True)):
        if not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"shell_radii[{shell}] is {radius}; a radius is finite and at least 0")
        if count != int(count) or count < 1:
            raise ValueError(f"shell_points[{shell}] is {count}; a shell has a whole number of points, at least 1")
