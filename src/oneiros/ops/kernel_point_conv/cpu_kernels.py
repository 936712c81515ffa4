"""The loops of kernel point convolution, compiled by numba. Each call does one part of the work in the calling thread.

A pass goes through short lists of edges (a query and one of its neighbours): all their places are first compared with
all kernel points, many edges in one vector instruction, then each edge's channels are multiplied, many channels in one.

Everything compiled stands in this one file: numba's cache notices changes of a file, not of what it imports.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from oneiros.ops.compiled import compiled

EDGES = 256  # in a list: enough to hide the way to memory, few enough to stay in the second cache with their channels
LANES = 16  # lists are padded to whole vectors of this many
CACHE_LINE = 64  # bytes
LINEAR, GAUSSIAN, CONSTANT = range(3)
GAUSSIAN_WIDTH = 0.3  # of sigma, as in `reference`


# Sums over channels become sums of vectors.
vectorised = partial(compiled, reorders_sums=True)


class Places(NamedTuple):
    """What says where neighbours lie. With `known`, nearest and influence (M, H) do; else the points themselves."""

    points: Any
    queries: Any
    kernel_points: Any
    neighbors: Any
    sigma: Any
    kind: Any
    known: Any
    nearest: Any
    influence: Any


class Factors(NamedTuple):
    """Weights (K, C), gates (M, K, C // G), which are the modulations, or (0, K, 0) for none, and features (N, C)."""

    weights: Any
    gates: Any
    features: Any


class Edges(NamedTuple):
    """A list of edges: rows of query and point, index in the neighbour list, nearest kernel point and influence; and
    room for squared distances, differences (D, edges) and every channel's modulation (edges, C), or ones."""

    query: Any
    point: Any
    index: Any
    kernel: Any
    influence: Any
    squared: Any
    difference: Any
    gate: Any


@intrinsic
def _prefetch(typing_context, array, row, column):  # type: ignore[no-untyped-def]
    """Ask for array[row, column] to be brought near: neighbours lie anywhere, so the processor cannot guess them."""

    def build(context, builder, signature, arguments):
        kind = signature.args[0]
        view = context.make_array(kind)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, kind, view, list(arguments[1:]), wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(place, byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), build


@vectorised
def _room(places, channels):
    size = (max(EDGES, places.neighbors.shape[1]) + LANES - 1) // LANES * LANES
    real = places.points.dtype
    return Edges(
        np.zeros(size, np.uint32),
        np.zeros(size, np.uint32),
        np.zeros(size, np.int64),
        np.zeros(size, np.uint32),
        np.zeros(size, real),
        np.zeros(size, real),
        np.zeros((places.kernel_points.shape[1], size), real),
        np.ones((size, channels), real),
    )


@vectorised
def _list(places, first, last, low, high, edges):
    """List edges from query `first` on whose points are rows low to high, for as many whole queries as there is room.

    Returns the number of edges and the query to go on from.
    """
    neighbors, num_neighbors = places.neighbors, places.neighbors.shape[1]
    most = len(edges.query) - num_neighbors
    count, i = 0, first
    while i < last and count <= most:
        for h in range(num_neighbors):
            j = neighbors[i, h]
            edges.query[count] = i
            edges.point[count] = j
            edges.index[count] = i * num_neighbors + h
            count += (j >= low) & (j < high)
        i += 1
    return count, i


@vectorised
def _locate(places, count, edges):
    """Fill in the nearest kernel points and the influences of listed edges."""
    if places.known:
        nearest, influence = places.nearest.reshape(-1), places.influence.reshape(-1)
        for e in range(count):
            edges.kernel[e] = nearest[edges.index[e]]
            edges.influence[e] = influence[edges.index[e]]
    else:
        _find_nearest(places, count, edges)
        _find_influence(places, count, edges)


@vectorised
def _find_nearest(places, count, edges):
    points, queries, kernel_points = places.points, places.queries, places.kernel_points
    squared, kernel, difference = edges.squared, edges.kernel, edges.difference
    dim = kernel_points.shape[1]
    for e in range(count):
        for d in range(dim):
            difference[d, e] = points[edges.point[e], d] - queries[edges.query[e], d]
    padded = (count + LANES - 1) // LANES * LANES
    squared[:padded] = np.inf
    for k in range(len(kernel_points)):
        row = np.uint32(k)
        if dim == 3:
            for e in range(padded):
                x = difference[0, e] - kernel_points[row, 0]
                y = difference[1, e] - kernel_points[row, 1]
                z = difference[2, e] - kernel_points[row, 2]
                distance = x * x + y * y + z * z
                nearer = distance < squared[e]
                squared[e] = distance if nearer else squared[e]
                kernel[e] = row if nearer else kernel[e]
        else:
            for e in range(count):
                distance = squared.dtype.type(0)
                for d in range(dim):
                    distance += (difference[d, e] - kernel_points[row, d]) ** 2
                if distance < squared[e]:
                    squared[e], kernel[e] = distance, row


@vectorised
def _find_influence(places, count, edges):
    sigma, squared, influence = places.sigma, edges.squared, edges.influence
    one = squared.dtype.type(1)
    for e in range(count):
        if places.kind == LINEAR:
            influence[e] = max(one - np.sqrt(squared[e]) / sigma, one - one)
        elif places.kind == GAUSSIAN:
            influence[e] = np.exp(-squared[e] / (2 * (GAUSSIAN_WIDTH * sigma) ** 2))
        else:
            influence[e] = one


@vectorised
def _fetch(count, gates, rows, edges):
    """Write out each edge's modulation of every channel, and bring its point's row near."""
    num_groups, channels = gates.shape[2], rows.shape[1]
    flat = gates.reshape((gates.shape[0] * gates.shape[1], num_groups))
    reals_per_line = CACHE_LINE // rows.itemsize
    for e in range(count):
        if num_groups > 0:
            _prefetch(flat, edges.query[e] * gates.shape[1] + edges.kernel[e], 0)  # type: ignore[call-arg]
        for c in range(0, channels, reals_per_line):
            _prefetch(rows, edges.point[e], c)  # type: ignore[call-arg]
    width = channels // max(1, num_groups)
    for e in range(count):
        i, k = edges.query[e], edges.kernel[e]
        for g in range(num_groups):
            value = gates[i, k, g]
            # A constant length lets the compiler write the common width in one instruction.
            if width == 8:
                for c in range(8):
                    edges.gate[e, g * 8 + c] = value
            else:
                for c in range(width):
                    edges.gate[e, g * width + c] = value


@vectorised
def forward(first, last, places, factors, out):
    """Rows first to last of out (M, C)."""
    weights, gates, features = factors
    edges = _room(places, features.shape[1])
    out[first:last] = 0
    start = first
    while start < last:
        count, start = _list(places, start, last, 0, len(features), edges)
        _locate(places, count, edges)
        _fetch(count, gates, features, edges)
        for e in range(count):
            i, j, k, h = edges.query[e], edges.point[e], edges.kernel[e], edges.influence[e]
            for c in range(features.shape[1]):
                out[i, c] += h * edges.gate[e, c] * weights[k, c] * features[j, c]


@vectorised
def backward_points(low, high, places, factors, grad, features_grad):
    """Rows low to high of the gradient of features (N, C), each summed in the order of the queries."""
    weights, gates, _ = factors
    edges = _room(places, grad.shape[1])
    features_grad[low:high] = 0
    start = 0
    while start < len(grad):
        count, start = _list(places, start, len(grad), low, high, edges)
        _locate(places, count, edges)
        _fetch(count, gates, features_grad, edges)
        for e in range(count):
            i, j, k, h = edges.query[e], edges.point[e], edges.kernel[e], edges.influence[e]
            for c in range(grad.shape[1]):
                features_grad[j, c] += h * edges.gate[e, c] * weights[k, c] * grad[i, c]


@vectorised
def backward_queries(first, last, places, factors, grad, weights_grad, gates_grad, influence_grad):
    """Of queries first to last: the gradient of modulations (M, K, C // G) and of the influence (M, H), where these are
    not empty, and their share of the gradient of weights (K, C)."""
    weights, gates, features = factors
    channels = features.shape[1]
    edges = _room(places, channels)
    product = np.empty(channels, features.dtype)
    weights_grad[:] = 0
    influence_grad[first:last] = 0
    influence_grad = influence_grad.reshape(-1)
    start = first
    while start < last:
        begin = start
        count, start = _list(places, begin, last, 0, len(features), edges)
        _locate(places, count, edges)
        _fetch(count, gates, features, edges)
        if gates_grad.size:
            gates_grad[begin:start] = 0
        for e in range(count):
            i, j, k, h = edges.query[e], edges.point[e], edges.kernel[e], edges.influence[e]
            for c in range(channels):
                product[c] = grad[i, c] * features[j, c]
            for c in range(channels):
                weights_grad[k, c] += h * product[c] * edges.gate[e, c]
            for c in range(channels):
                product[c] *= weights[k, c]
            if gates_grad.size:
                _add_groups(h, product, gates_grad, i, k)
            if influence_grad.size:
                total = product.dtype.type(0)
                for c in range(channels):
                    total += product[c] * edges.gate[e, c]
                influence_grad[edges.index[e]] = total


@vectorised
def _add_groups(factor, values, out, i, k):
    """Add factor times the sum of each group of values to out[i, k]."""
    num_groups = out.shape[2]
    width = len(values) // num_groups
    for g in range(num_groups):
        total = values.dtype.type(0)
        if width == 8:
            for c in range(8):
                total += values[g * 8 + c]
        else:
            for c in range(width):
                total += values[g * width + c]
        out[i, k, g] += factor * total


@vectorised
def geometry(first, last, places, nearest, influence):
    """Rows first to last of nearest and influence (M, H); both are 0 where a neighbour is missing."""
    edges = _room(places, 0)
    nearest[first:last] = 0
    influence[first:last] = 0
    nearest, influence = nearest.reshape(-1), influence.reshape(-1)
    start = first
    while start < last:
        count, start = _list(places, start, last, 0, len(places.points), edges)
        _locate(places, count, edges)
        for e in range(count):
            nearest[edges.index[e]] = edges.kernel[e]
            influence[edges.index[e]] = edges.influence[e]
