"""Kernel point convolution for GPUs, in Triton: a program takes a block of queries and goes through their neighbours.

Channels stand in tiles of groups by members, so that any group size fits and a group's sum is the sum along an axis.

Legend: N points, M queries, H neighbours of a query, K kernel points, D coordinates, C channels, G channels per group.
Of a program: ROWS queries; KERNELS, the power of two from K; GROUPS groups and MEMBERS, the power of two from G.
"""

# Triton's language is not Python's: plain numbers are constants, its ranges only look like iterators.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl

GAUSSIAN_WIDTH = tl.constexpr(0.3)  # of sigma, as in `reference`


@triton.jit
def _edge(
    h,
    rows,
    real_rows,
    places,
    sizes,
    SIGMA: tl.constexpr,
    KIND: tl.constexpr,
    KNOWN: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KERNELS: tl.constexpr,
):
    """Point, whether there is one, nearest kernel point and influence of neighbour h of each row."""
    points, queries, kernel_points, neighbors, nearest, influence = places
    N, H, K = sizes
    real = points.dtype.element_ty
    j = tl.load(neighbors + rows * H + h, mask=real_rows, other=-1)
    present = (j >= 0) & (j < N)
    if KNOWN:
        k = tl.load(nearest + rows * H + h, mask=present, other=0).to(tl.int64)
        strength = tl.load(influence + rows * H + h, mask=present, other=0)
    else:
        kernels = tl.arange(0, KERNELS)
        squared = tl.zeros([ROWS, KERNELS], real)
        for d in tl.static_range(D):
            offset = tl.load(points + j * D + d, mask=present, other=0)
            offset -= tl.load(queries + rows * D + d, mask=present, other=0)
            difference = offset[:, None] - tl.load(kernel_points + kernels * D + d, mask=kernels < K, other=0)[None, :]
            squared += difference * difference
        least, k = tl.min(tl.where(kernels[None, :] < K, squared, float("inf")), 1, return_indices=True)
        k = k.to(tl.int64)
        if KIND == "linear":
            strength = tl.maximum(1 - tl.sqrt(least) / SIGMA, 0)
        elif KIND == "gaussian":
            strength = tl.exp(-least / (2 * GAUSSIAN_WIDTH * GAUSSIAN_WIDTH * SIGMA * SIGMA))
        else:
            strength = tl.full([ROWS], 1, real)
        strength = tl.where(present, strength, 0)
    return j, present, k, strength


@triton.jit
def _channels(group_block, C, G: tl.constexpr, GROUPS: tl.constexpr, MEMBERS: tl.constexpr):
    """Group, channel and whether it is real, each (1, GROUPS, MEMBERS), of a tile of channels."""
    groups = group_block * GROUPS + tl.arange(0, GROUPS)[None, :, None]
    members = tl.arange(0, MEMBERS)[None, None, :]
    channels = groups * G + members
    return groups, channels, (members < G) & (channels < C)


@triton.jit
def geometry(
    places,
    sizes,
    M,
    SIGMA: tl.constexpr,
    KIND: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KERNELS: tl.constexpr,
):
    """Write nearest and influence, the last two of the places, instead of reading them."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    real_rows = rows < M
    for h in range(sizes[1]):
        _, present, k, strength = _edge(h, rows, real_rows, places, sizes, SIGMA, KIND, False, D, ROWS, KERNELS)
        tl.store(places[4] + rows * sizes[1] + h, tl.where(present, k, 0).to(tl.int16), mask=real_rows)
        tl.store(places[5] + rows * sizes[1] + h, strength, mask=real_rows)


@triton.jit
def forward(
    places,
    sizes,
    weights,
    gates,
    features,
    out,
    M,
    C,
    G: tl.constexpr,
    SIGMA: tl.constexpr,
    KIND: tl.constexpr,
    KNOWN: tl.constexpr,
    GATED: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KERNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """A tile of out (M, C): ROWS queries by GROUPS groups of channels."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    real_rows = rows < M
    groups, channels, real_channels = _channels(tl.program_id(1), C, G, GROUPS, MEMBERS)
    total = tl.zeros([ROWS, GROUPS, MEMBERS], out.dtype.element_ty)
    for h in range(sizes[1]):
        j, present, k, strength = _edge(h, rows, real_rows, places, sizes, SIGMA, KIND, KNOWN, D, ROWS, KERNELS)
        real = present[:, None, None] & real_channels
        product = tl.load(weights + k[:, None, None] * C + channels, mask=real, other=0)
        product *= tl.load(features + j[:, None, None] * C + channels, mask=real, other=0)
        if GATED:
            gate = (rows * sizes[2] + k)[:, None, None] * (C // G) + groups
            product *= tl.load(gates + gate, mask=real, other=0)
        total += strength[:, None, None] * product
    tl.store(out + rows[:, None, None] * C + channels, total, mask=real_rows[:, None, None] & real_channels)


@triton.jit
def backward(
    places,
    sizes,
    weights,
    gates,
    features,
    grad,
    weights_grad,
    gates_grad,
    features_grad,
    influence_grad,
    M,
    C,
    G: tl.constexpr,
    SIGMA: tl.constexpr,
    KIND: tl.constexpr,
    KNOWN: tl.constexpr,
    GATED: tl.constexpr,
    NEEDS_WEIGHTS: tl.constexpr,
    NEEDS_GATES: tl.constexpr,
    NEEDS_FEATURES: tl.constexpr,
    NEEDS_INFLUENCE: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    KERNELS: tl.constexpr,
    GROUPS: tl.constexpr,
    MEMBERS: tl.constexpr,
):
    """All needed gradients of some blocks of queries, for GROUPS groups of channels.

    weights_grad (programs, K, C) takes this program's share; the others hold zeros to be added to.
    """
    K = sizes[2]
    num_groups = C // G
    kernels = tl.arange(0, KERNELS)
    groups, channels, real_channels = _channels(tl.program_id(1), C, G, GROUPS, MEMBERS)
    groups_2d = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)[None, :]
    share = tl.zeros([KERNELS, GROUPS * MEMBERS], grad.dtype.element_ty)
    for block in range(tl.program_id(0), tl.cdiv(M, ROWS), tl.num_programs(0)):
        rows = (block * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        real_rows = rows < M
        above = tl.load(
            grad + rows[:, None, None] * C + channels, mask=real_rows[:, None, None] & real_channels, other=0
        )
        for h in range(sizes[1]):
            j, present, k, strength = _edge(h, rows, real_rows, places, sizes, SIGMA, KIND, KNOWN, D, ROWS, KERNELS)
            real = present[:, None, None] & real_channels
            weight = tl.load(weights + k[:, None, None] * C + channels, mask=real, other=0)
            feature = tl.load(features + j[:, None, None] * C + channels, mask=real, other=0)
            if GATED:
                gate = tl.load(gates + (rows * K + k)[:, None, None] * num_groups + groups, mask=real, other=0)
            else:
                gate = tl.full([1, 1, 1], 1, weight.dtype)
            if NEEDS_FEATURES:
                per_feature = strength[:, None, None] * gate * weight * above
                tl.atomic_add(features_grad + j[:, None, None] * C + channels, per_feature, mask=real, sem="relaxed")
            if NEEDS_WEIGHTS:
                per_weight = tl.reshape(strength[:, None, None] * gate * feature * above, ROWS, GROUPS * MEMBERS)
                is_nearest = (kernels[:, None] == k[None, :]).to(per_weight.dtype)
                share = tl.dot(is_nearest, per_weight, share, input_precision="ieee", out_dtype=share.dtype)
            per_gate = tl.sum(weight * feature * above, 2)
            if NEEDS_GATES:
                # The same rows may meet the same kernel point again: what was stored must be seen by then.
                place = gates_grad + (rows * K + k)[:, None] * num_groups + groups_2d
                mask = present[:, None] & (groups_2d < num_groups)
                tl.store(place, tl.load(place, mask=mask, other=0) + strength[:, None] * per_gate, mask=mask)
                tl.debug_barrier()
            if NEEDS_INFLUENCE:
                if GATED:
                    per_gate *= tl.load(
                        gates + (rows * K + k)[:, None] * num_groups + groups_2d,
                        mask=present[:, None] & (groups_2d < num_groups),
                        other=0,
                    )
                tl.atomic_add(influence_grad + rows * sizes[1] + h, tl.sum(per_gate, 1), mask=present, sem="relaxed")
    if NEEDS_WEIGHTS:
        place = (tl.program_id(0) * K + kernels)[:, None, None] * C + channels
        mask = (kernels < K)[:, None, None] & real_channels
        tl.store(weights_grad + place, tl.reshape(share, KERNELS, GROUPS, MEMBERS), mask=mask)
