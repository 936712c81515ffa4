"""Compiled kernels as torch operators: with their slopes, known to the compiler, checked by `torch.library.opcheck`.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PLACES = "Tensor points, Tensor queries, Tensor kernel_points, Tensor neighbors, float sigma, str kind"
LAYOUT = f"{PLACES}, Tensor? nearest, Tensor? influence"
OPERANDS = "Tensor weights, Tensor? modulations, Tensor features"

Slopes = tuple[Tensor, Tensor, Tensor, Tensor]


class Layout(NamedTuple):
    """Where neighbours lie: their nearest kernel points and influences (M, H), or None to find them from the points."""

    points: Tensor
    queries: Tensor
    kernel_points: Tensor
    neighbors: Tensor
    sigma: float
    kind: str
    nearest: Tensor | None = None
    influence: Tensor | None = None


class Operands(NamedTuple):
    """What is multiplied: weights (K, C), modulations (M, K, C // G) or None, features (N, C)."""

    weights: Tensor
    modulations: Tensor | None
    features: Tensor


class Wanted(NamedTuple):
    """Which slopes to compute."""

    weights: bool
    modulations: bool
    features: bool
    influence: bool


class Kernels(Protocol):
    """What a module of kernels offers, on tensors of one floating type; slopes that are not wanted are empty."""

    def geometry(self, layout: Layout) -> tuple[Tensor, Tensor]: ...

    def forward(self, layout: Layout, operands: Operands) -> Tensor: ...

    def backward(self, slope: Tensor, layout: Layout, operands: Operands, wanted: Wanted) -> Slopes: ...


class Operators(NamedTuple):
    """geometry(*PLACES) -> (nearest, influence), without slopes; conv(*LAYOUT, *OPERANDS) -> (M, C), with slopes of the
    operands and of the influence."""

    geometry: torch.library.CustomOpDef
    conv: torch.library.CustomOpDef


def register(name: str, kernels: Kernels) -> Operators:
    """Make operators `oneiros::kernel_point_*_<name>` of a module's kernels."""
    return Operators(_register_geometry(name, kernels), _register_conv(name, kernels))


def empty_slopes(layout: Layout, operands: Operands, wanted: Wanted) -> Slopes:
    """Room for the wanted slopes; of what is not wanted, none."""
    weights, modulations, features = operands

    def room(like: Tensor | None, is_wanted: bool, dims: int) -> Tensor:
        shape = like.shape if like is not None and is_wanted else [0] * dims
        return features.new_empty(shape)

    return (
        room(weights, wanted.weights, 2),
        room(modulations, wanted.modulations, 3),
        room(features, wanted.features, 2),
        room(layout.neighbors, wanted.influence, 2),
    )


def _register_geometry(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def geometry(*places) -> tuple[Tensor, Tensor]:
        return kernels.geometry(Layout(*places))

    def fake(*places) -> tuple[Tensor, Tensor]:
        layout = Layout(*places)
        shape = layout.neighbors.shape
        return layout.points.new_empty(shape, dtype=torch.int16), layout.points.new_empty(shape)

    schema = f"({PLACES}) -> (Tensor, Tensor)"
    operator = torch.library.custom_op(
        f"oneiros::kernel_point_geometry_{name}", geometry, mutates_args=(), schema=schema
    )
    operator.register_fake(fake)
    return operator


def _register_conv(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def forward(*arguments) -> Tensor:
        return kernels.forward(Layout(*arguments[:8]), Operands(*arguments[8:]))

    def fake(*arguments) -> Tensor:
        layout, operands = Layout(*arguments[:8]), Operands(*arguments[8:])
        return operands.features.new_empty(layout.neighbors.shape[0], operands.features.shape[1])

    slopes = _register_slopes(name, kernels)

    def keep(ctx, inputs, output) -> None:
        layout, operands = Layout(*inputs[:8]), Operands(*inputs[8:])
        ctx.save_for_backward(*layout[:4], layout.nearest, layout.influence, *operands)
        ctx.sigma, ctx.kind = layout.sigma, layout.kind

    def backward(ctx, slope: Tensor):
        *places, nearest, influence, weights, modulations, features = ctx.saved_tensors
        needs = ctx.needs_input_grad
        wanted = Wanted(weights=needs[8], modulations=needs[9], features=needs[10], influence=needs[7])
        found = slopes(
            slope, *places, ctx.sigma, ctx.kind, nearest, influence, weights, modulations, features, list(wanted)
        )
        by_name = {n: s if w else None for n, s, w in zip(Wanted._fields, found, wanted, strict=True)}
        return *(None,) * 7, *(by_name[n] for n in ("influence", "weights", "modulations", "features"))

    operator = torch.library.custom_op(
        f"oneiros::kernel_point_conv_{name}", forward, mutates_args=(), schema=f"({LAYOUT}, {OPERANDS}) -> Tensor"
    )
    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=keep)
    return operator


def _register_slopes(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def slopes(slope: Tensor, *arguments) -> Slopes:
        layout, operands = Layout(*arguments[:8]), Operands(*arguments[8:11])
        return kernels.backward(slope, layout, operands, Wanted(*arguments[11]))

    def fake(slope: Tensor, *arguments) -> Slopes:
        return empty_slopes(Layout(*arguments[:8]), Operands(*arguments[8:11]), Wanted(*arguments[11]))

    operator = torch.library.custom_op(
        f"oneiros::kernel_point_conv_slopes_{name}",
        slopes,
        mutates_args=(),
        schema=f"(Tensor slope, {LAYOUT}, {OPERANDS}, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)",
    )
    operator.register_fake(fake)
    return operator
