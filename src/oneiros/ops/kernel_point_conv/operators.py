"""Compiled kernels as torch operators, with their gradients: known to the compiler, checked by `torch.library.opcheck`.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PLACES = "Tensor points, Tensor queries, Tensor kernel_points, Tensor neighbors, float sigma, str kind"
PLACEMENT = f"{PLACES}, Tensor? nearest, Tensor? influence"
OPERANDS = "Tensor weights, Tensor? modulations, Tensor features"

Grads = tuple[Tensor, Tensor, Tensor, Tensor]


class Placement(NamedTuple):
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


class Needed(NamedTuple):
    """Which gradients to compute."""

    weights: bool
    modulations: bool
    features: bool
    influence: bool


class Kernels(Protocol):
    """What a module of kernels offers, on tensors of one floating type; gradients that are not needed are empty."""

    def geometry(self, placement: Placement) -> tuple[Tensor, Tensor]: ...

    def forward(self, placement: Placement, operands: Operands) -> Tensor: ...

    def backward(self, grad: Tensor, placement: Placement, operands: Operands, needed: Needed) -> Grads: ...


class Operators(NamedTuple):
    """geometry(*PLACES) -> (nearest, influence), without gradients; conv(*PLACEMENT, *OPERANDS) -> (M, C), with
    gradients of the operands and of the influence."""

    geometry: torch.library.CustomOpDef
    conv: torch.library.CustomOpDef


def register(name: str, kernels: Kernels) -> Operators:
    """Make operators `oneiros::kernel_point_*_<name>` of a module's kernels."""
    return Operators(_register_geometry(name, kernels), _register_conv(name, kernels))


def empty_grads(placement: Placement, operands: Operands, needed: Needed) -> Grads:
    """Room for the needed gradients; of what is not needed, none."""
    weights, modulations, features = operands

    def room(like: Tensor | None, is_needed: bool, dims: int) -> Tensor:
        shape = like.shape if like is not None and is_needed else [0] * dims
        return features.new_empty(shape)

    return (
        room(weights, needed.weights, 2),
        room(modulations, needed.modulations, 3),
        room(features, needed.features, 2),
        room(placement.neighbors, needed.influence, 2),
    )


def _register_geometry(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def geometry(*places) -> tuple[Tensor, Tensor]:
        return kernels.geometry(Placement(*places))

    def fake(*places) -> tuple[Tensor, Tensor]:
        placement = Placement(*places)
        shape = placement.neighbors.shape
        return placement.points.new_empty(shape, dtype=torch.int16), placement.points.new_empty(shape)

    schema = f"({PLACES}) -> (Tensor, Tensor)"
    operator = torch.library.custom_op(
        f"oneiros::kernel_point_geometry_{name}", geometry, mutates_args=(), schema=schema
    )
    operator.register_fake(fake)
    return operator


def _register_conv(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def forward(*arguments) -> Tensor:
        return kernels.forward(Placement(*arguments[:8]), Operands(*arguments[8:]))

    def fake(*arguments) -> Tensor:
        placement, operands = Placement(*arguments[:8]), Operands(*arguments[8:])
        return operands.features.new_empty(placement.neighbors.shape[0], operands.features.shape[1])

    gradients = _register_backward(name, kernels)

    def keep(ctx, inputs, output) -> None:
        placement, operands = Placement(*inputs[:8]), Operands(*inputs[8:])
        ctx.save_for_backward(*placement[:4], placement.nearest, placement.influence, *operands)
        ctx.sigma, ctx.kind = placement.sigma, placement.kind

    def backward(ctx, grad: Tensor):
        *places, nearest, influence, weights, modulations, features = ctx.saved_tensors
        *_, of_influence, of_weights, of_modulations, of_features = ctx.needs_input_grad
        needed = Needed(of_weights, of_modulations, of_features, of_influence)
        placement = *places, ctx.sigma, ctx.kind, nearest, influence
        found = gradients(grad, *placement, weights, modulations, features, list(needed))
        found = [each if is_needed else None for each, is_needed in zip(found, needed, strict=True)]
        of_weights, of_modulations, of_features, of_influence = found
        no_places = [None] * len(Placement._fields[:-1])
        return *no_places, of_influence, of_weights, of_modulations, of_features

    operator = torch.library.custom_op(
        f"oneiros::kernel_point_conv_{name}", forward, mutates_args=(), schema=f"({PLACEMENT}, {OPERANDS}) -> Tensor"
    )
    operator.register_fake(fake)
    operator.register_autograd(backward, setup_context=keep)
    return operator


def _register_backward(name: str, kernels: Kernels) -> torch.library.CustomOpDef:
    def gradients(grad: Tensor, *arguments) -> Grads:
        placement, operands = Placement(*arguments[:8]), Operands(*arguments[8:11])
        return kernels.backward(grad, placement, operands, Needed(*arguments[11]))

    def fake(grad: Tensor, *arguments) -> Grads:
        return empty_grads(Placement(*arguments[:8]), Operands(*arguments[8:11]), Needed(*arguments[11]))

    operator = torch.library.custom_op(
        f"oneiros::kernel_point_conv_backward_{name}",
        gradients,
        mutates_args=(),
        schema=f"(Tensor grad, {PLACEMENT}, {OPERANDS}, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor)",
    )
    operator.register_fake(fake)
    return operator
