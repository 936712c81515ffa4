"""Kernel point convolution with modulations: KPConvX's operator (arXiv 2405.13194, section 3) on packed points.

For query i and its neighbour j, y = x_j - x_i; k is the kernel point nearest to y (the lower row of equals) and
h_ij = max(0, 1 - |y - q_k| / sigma) its influence. Then, for channel c in groups of G consecutive channels,

    out[i, c] = sum over j of  h_ij * modulations[i, k, c // G] * weights[k, c] * features[j, c].

Three implementations agree: `reference` (plain torch), `numba` (CPU), `triton` (CUDA). The compiled ones fuse all of it
into one pass, with nothing in memory that grows with neighbours times kernel points, or with neighbours times channels.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Literal, cast

import torch
from torch import Tensor

from oneiros.ops.choice import choose
from oneiros.ops.kernel_point_conv import reference
from oneiros.ops.kernel_point_conv.checks import check_geometry, check_given, check_neighbors, check_operands
from oneiros.ops.kernel_point_conv.operators import Kernels, Operators, register

Influence = Literal["linear", "gaussian", "constant"]
Implementation = Literal["auto", "reference", "numba", "triton"]
COMPILED = ("numba", "triton")
MODULES = {"numba": "cpu", "triton": "cuda"}

__all__ = ["Geometry", "Implementation", "Influence", "kernel_point_conv", "kernel_point_geometry"]


@dataclass(frozen=True)
class Geometry:
    """Where neighbours lie among the kernel points. nearest: int16 (M, H), rows of the kernel points; influence:
    (M, H). Both are 0 where a neighbour is missing."""

    nearest: Tensor
    influence: Tensor


def kernel_point_geometry(
    points: Tensor,
    queries: Tensor,
    neighbors: Tensor,
    kernel_points: Tensor,
    sigma: float,
    *,
    influence: Influence = "linear",
    implementation: Implementation = "auto",
) -> Geometry:
    """Nearest kernel points and influences, for several convolutions over the same points; arguments as below.

    The influence is differentiable with respect to points, queries and kernel points; at distance 0 its gradient is 0.
    """
    check_geometry(points, queries, neighbors, kernel_points, sigma, influence)
    points, queries, kernel_points = _widened(points, queries, kernel_points)
    chosen = choose(implementation, points.device, COMPILED)
    return _geometry(chosen, points, queries, neighbors.long(), kernel_points, sigma, influence)


def kernel_point_conv(
    points: Tensor,
    queries: Tensor,
    neighbors: Tensor,
    kernel_points: Tensor,
    sigma: float,
    weights: Tensor,
    modulations: Tensor | None,
    features: Tensor,
    *,
    influence: Influence = "linear",
    geometry: Geometry | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Sum of the neighbours' features, weighted by where they lie; (M, C) in the features' type.

    points (N, D), queries (M, D), kernel_points (K, D): finite coordinates in one unit, sigma's too.
    neighbors: int64 (M, H), rows of the points; -1 or N for a missing neighbour, which contributes nothing.
    sigma: reach of a kernel point; not 0. Where it is negative, linear influence grows with distance (some released
        weights were trained so).
    weights (K, C), modulations (M, K, C // G) or None for ones, features (N, C).
    influence: `linear` as above; `gaussian`, exp(-d^2 / (2 (0.3 sigma)^2)); `constant`, 1.
    geometry: from `kernel_point_geometry` for the same points, to share it between calls; `influence` and `sigma` are
        then not looked at. Needed geometry gradients are computed through it too, so they cost memory (M, H, D).
    implementation: `auto` picks by device and by what is installed; the environment variable ONEIROS_KERNELS sets what
        it picks, for example `reference`.

    Computes in the widest type given, at least float32; under autocast the result stays in it.
    Raises ValueError for shapes that do not fit, a neighbour out of range, sigma 0 and coordinates that are not finite.
    """
    check_operands(len(points), len(queries), len(kernel_points), weights, modulations, features)
    if geometry is None:
        check_geometry(points, queries, neighbors, kernel_points, sigma, influence)
    else:
        check_neighbors(neighbors, len(queries), len(points))
        check_given(geometry.nearest, geometry.influence, neighbors, len(kernel_points))
    kind = features.dtype
    neighbors = neighbors.long()
    given = [] if modulations is None else [modulations]
    tensors = _widened(points, queries, kernel_points, weights, features, *given)
    points, queries, kernel_points, weights, features, *given = tensors
    gates = given[0] if given else None
    if torch.is_autocast_enabled(features.device.type):
        kind = features.dtype
    chosen = choose(implementation, features.device, COMPILED)
    if geometry is None and (chosen == "reference" or _needs_grad(points, queries, kernel_points)):
        geometry = _geometry(chosen, points, queries, neighbors, kernel_points, sigma, influence)
    nearest = None if geometry is None else geometry.nearest
    strength = None if geometry is None else geometry.influence.to(features.dtype)
    if chosen == "reference":
        assert nearest is not None
        assert strength is not None
        return reference.conv(neighbors, nearest, strength, weights, gates, features).to(kind)
    places = points, queries, kernel_points, neighbors, float(sigma), influence
    return _operators(chosen).conv(*places, nearest, strength, weights, gates, features).to(kind)


def _geometry(
    chosen: str,
    points: Tensor,
    queries: Tensor,
    neighbors: Tensor,
    kernel_points: Tensor,
    sigma: float,
    influence: Influence,
) -> Geometry:
    if chosen == "reference":
        return Geometry(*reference.geometry(points, queries, neighbors, kernel_points, sigma, influence))
    places = points, queries, kernel_points, neighbors, float(sigma), influence
    nearest, strength = _operators(chosen).geometry(*places)
    if _needs_grad(points, queries, kernel_points):
        strength = reference.influence_of(points, queries, neighbors, kernel_points, nearest, sigma, influence)
    return Geometry(nearest, strength)


def _widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All in the widest of their types, at least float32."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(tensor.to(widest) for tensor in tensors)


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@cache
def _operators(name: str) -> Operators:
    return register(name, cast(Kernels, import_module(f"{__name__}.{MODULES[name]}")))
