"""Kernel point convolution on CPUs: which thread runs which of the compiled loops on what.

Sums are formed in an order that does not depend on the number of threads, so results repeat bit by bit. A query's sum
belongs to one thread. The gradient of the weights is summed by blocks of queries that the queries alone decide, then
over the blocks. For the gradient of the features each thread owns a range of points, looks through all neighbours in
order and adds up those in its range: one more look at the neighbour list for each thread, and no list of who is whose
neighbour.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.kernel_point_conv import cpu_kernels
from oneiros.ops.kernel_point_conv.operators import Grads, Needed, Operands, Placement, empty_grads
from oneiros.ops.threads import in_threads

QUERIES_PER_BLOCK, MOST_BLOCKS = 512, 32
KINDS = {"linear": cpu_kernels.LINEAR, "gaussian": cpu_kernels.GAUSSIAN, "constant": cpu_kernels.CONSTANT}


def geometry(placement: Placement) -> tuple[Tensor, Tensor]:
    """Nearest kernel points, int16 (M, H), and influences (M, H)."""
    nearest = torch.empty(placement.neighbors.shape, dtype=torch.int16)
    influence = torch.empty(placement.neighbors.shape, dtype=placement.points.dtype)
    places = _places(placement)
    calls = [(*rows, places, nearest.numpy(), influence.numpy()) for rows in _blocks(len(nearest))]
    in_threads(cpu_kernels.geometry, calls)
    return nearest, influence


def forward(placement: Placement, operands: Operands) -> Tensor:
    """The sum over neighbours, (M, C)."""
    out = operands.features.new_empty(len(placement.neighbors), operands.features.shape[1])
    places, factors = _places(placement), _factors(operands)
    in_threads(cpu_kernels.forward, [(*rows, places, factors, out.numpy()) for rows in _blocks(len(out))])
    return out


def backward(grad: Tensor, placement: Placement, operands: Operands, needed: Needed) -> Grads:
    """Gradients of weights, modulations, features and influence."""
    grads = empty_grads(placement, operands, needed)
    of_weights, of_modulations, of_features, of_influence = grads
    places, factors, above = _places(placement), _factors(operands), _array(grad)
    if needed.weights or needed.modulations or needed.influence:
        blocks = _blocks(len(grad))
        shares = grad.new_empty(len(blocks), *operands.weights.shape)
        outputs = of_modulations.numpy(), of_influence.numpy()
        calls = [
            (*rows, places, factors, above, share.numpy(), *outputs) for rows, share in zip(blocks, shares, strict=True)
        ]
        in_threads(cpu_kernels.backward_queries, calls)
        if needed.weights:
            np.sum(shares.numpy(), axis=0, out=of_weights.numpy())
    if needed.features:
        ranges = _split(len(of_features), torch.get_num_threads())
        calls = [(*rows, places, factors, above, of_features.numpy()) for rows in ranges]
        in_threads(cpu_kernels.backward_points, calls)
    return grads


def _places(placement: Placement) -> cpu_kernels.Places:
    known = placement.nearest is not None and placement.influence is not None
    points = _array(placement.points)
    return cpu_kernels.Places(
        points=points,
        queries=_array(placement.queries),
        kernel_points=_array(placement.kernel_points),
        neighbors=_array(placement.neighbors),
        sigma=points.dtype.type(placement.sigma),
        kind=KINDS[placement.kind],
        known=known,
        nearest=_array(placement.nearest) if placement.nearest is not None else np.empty((0, 0), np.int16),
        influence=_array(placement.influence) if placement.influence is not None else np.empty((0, 0), points.dtype),
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _factors(operands: Operands) -> cpu_kernels.Factors:
    weights, modulations, features = operands
    gates = weights.new_empty(0, len(weights), 0) if modulations is None else modulations
    return cpu_kernels.Factors(_array(weights), _array(gates), _array(features))


def _blocks(rows: int) -> list[tuple[int, int]]:
    """Ranges of rows, as many as the rows say, whatever the number of threads."""
    return _split(rows, min(MOST_BLOCKS, -(-rows // QUERIES_PER_BLOCK)))


def _split(rows: int, parts: int) -> list[tuple[int, int]]:
    bounds = [rows * part // parts for part in range(parts + 1)] if parts else []
    return list(pairwise(bounds))
