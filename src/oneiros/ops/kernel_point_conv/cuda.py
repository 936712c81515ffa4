"""Kernel point convolution on GPUs: which programs run over what.

The gradient of the features is summed by atomic additions in an order that the GPU decides: its last bits may differ
from run to run, and those of the influence's gradient too where channels fill more than one tile. All else repeats bit
by bit.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

# Launches take tuples and plain numbers where the kernels' signatures speak of pointers and constants.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from oneiros.ops.kernel_point_conv import cuda_kernels
from oneiros.ops.kernel_point_conv.operators import Grads, Needed, Operands, Placement, empty_grads

LEAST_SIDE = 16  # of a matrix product
TILE = 1024  # numbers in a program's tile: each also has an address, and all shall stay in registers
MOST_CHANNELS = 64
MOST_PROGRAMS = 512  # that keep a share of the weights' gradient each


def geometry(placement: Placement) -> tuple[Tensor, Tensor]:
    """Nearest kernel points, int16 (M, H), and influences (M, H)."""
    nearest = placement.points.new_empty(placement.neighbors.shape, dtype=torch.int16)
    influence = placement.points.new_empty(placement.neighbors.shape)
    if nearest.numel():
        places, sizes, options = _places(placement._replace(nearest=nearest, influence=influence))
        del options["KNOWN"]
        rows = _rows(options["KERNELS"])
        cuda_kernels.geometry[(triton.cdiv(len(nearest), rows),)](places, sizes, len(nearest), ROWS=rows, **options)
    return nearest, influence


def forward(placement: Placement, operands: Operands) -> Tensor:
    """The sum over neighbours, (M, C)."""
    features = operands.features
    out = features.new_empty(len(placement.neighbors), features.shape[1])
    if out.numel():
        places, sizes, options = _places(placement)
        factors, numbers, tile, num_tiles = _tiles(operands)
        rows = _rows(max(options["KERNELS"], tile["GROUPS"] * tile["MEMBERS"]))
        grid = triton.cdiv(len(out), rows), num_tiles
        cuda_kernels.forward[grid](places, sizes, *factors, out, len(out), *numbers, ROWS=rows, **options, **tile)
    return out


def backward(grad: Tensor, placement: Placement, operands: Operands, needed: Needed) -> Grads:
    """Gradients of weights, modulations, features and influence."""
    grads = empty_grads(placement, operands, needed)
    for part in grads:
        part.zero_()
    if not grad.numel():
        return grads
    places, sizes, options = _places(placement)
    factors, numbers, tile, num_tiles = _tiles(operands)
    rows = _rows(max(options["KERNELS"], tile["GROUPS"] * tile["MEMBERS"]))
    programs = min(triton.cdiv(len(grad), rows), MOST_PROGRAMS)
    shares = grad.new_empty(programs if needed.weights else 0, *operands.weights.shape)
    cuda_kernels.backward[(programs, num_tiles)](
        places,
        sizes,
        *factors,
        grad.contiguous(),
        shares,
        *grads[1:],
        len(grad),
        *numbers,
        ROWS=rows,
        NEEDS_WEIGHTS=needed.weights,
        NEEDS_GATES=needed.modulations,
        NEEDS_FEATURES=needed.features,
        NEEDS_INFLUENCE=needed.influence,
        **options,
        **tile,
    )
    if needed.weights:
        torch.sum(shares, 0, out=grads[0])
    return grads


def _places(placement: Placement) -> tuple[tuple[Tensor, ...], tuple[int, int, int], dict[str, Any]]:
    """What the kernels take as `places` and `sizes`, and constants."""
    points, queries, kernel_points, neighbors, sigma, kind, nearest, influence = placement
    if nearest is None or influence is None:
        given, known = (points.new_empty(0, dtype=torch.int16), points.new_empty(0)), False
    else:
        given, known = (nearest, influence), True
    options = {
        "SIGMA": sigma,
        "KIND": kind,
        "KNOWN": known,
        "D": kernel_points.shape[1],
        "KERNELS": max(LEAST_SIDE, triton.next_power_of_2(len(kernel_points))),
    }
    places = tuple(tensor.contiguous() for tensor in (points, queries, kernel_points, neighbors, *given))
    return places, (len(points), neighbors.shape[1], len(kernel_points)), options


def _tiles(operands: Operands) -> tuple[tuple[Tensor, ...], tuple[int, int], dict[str, Any], int]:
    """Weights, gates and features; C and G; constants of a tile of channels; and how many tiles there are."""
    weights, modulations, features = operands
    channels = weights.shape[1]
    # Without modulations any grouping will do: single channels fill tiles best.
    num_groups = channels if modulations is None else modulations.shape[2]
    group = channels // num_groups
    members = triton.next_power_of_2(group)
    width = max(LEAST_SIDE, min(MOST_CHANNELS, triton.next_power_of_2(num_groups) * members))
    groups = max(1, width // members)
    tile = {"GATED": modulations is not None, "GROUPS": groups, "MEMBERS": members}
    gates = features.new_empty(0) if modulations is None else modulations
    factors = tuple(tensor.contiguous() for tensor in (weights, gates, features))
    return factors, (channels, group), tile, triton.cdiv(num_groups, groups)


def _rows(width: int) -> int:
    """Queries of a program whose widest tile has `width` columns."""
    return max(LEAST_SIDE, min(64, TILE // triton.next_power_of_2(width)))
