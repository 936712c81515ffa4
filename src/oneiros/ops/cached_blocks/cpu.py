"""Transformer blocks over a few elements against a ring of keys and values, compiled for CPUs.

Elements lie in lanes: a panel holds 16 of them, one channel after the other, so that a product with a weight is a sum
of its numbers, each times a vector of 16, and leaves what the next product takes. `_tile` says that in LLVM's own
terms, since numba would not keep the sums in registers. With 16 elements it was measured to multiply at 100 GFLOP/s on
one core of a Zen 4, and at 90 without AVX-512, where torch's products reach 60 and 70.

Legend: B batch, P places (steps of a frame, m elements each), G panels, D width, F width of the feed-forward, d
channels of a head.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

from oneiros.ops.compiled import compiled

intrinsic: Any = _intrinsic  # what it decorates is called without the first argument
vectorised = partial(compiled, reorders_sums=True)

LANES = 16
ROWS = 4  # of a tile: with 16 lanes, as many sums as an AVX2 processor has registers for
AHEAD = 512  # numbers that are fetched before their turn: weights come from far
KEYS = 96  # attended at once: with their values and scores, they stay in the innermost cache

_ONE, _ZERO = np.float32(1), np.float32(0)
_LOG2_E, _LN_2 = np.float32(1.44269504), np.float32(0.69314718)
_ROUND = np.float32(1.5 * 2**23)  # added to a float32, leaves its whole part in the lowest bits
_ROUND_BITS = np.int32(0x4B400000)
_POLYNOMIAL = tuple(
    np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
)


def _tile_of(rows: int):
    """An intrinsic for so many rows of a product."""

    @intrinsic
    def tile(typing, left, start, row, step, right, first, count, out, to, add):
        """out[to:] (+)= sum over k < count of left[start + r * row + k * step] * right[first + k], each a vector of 16
        lanes, for the rows r. All but right's and out's rows, 16 each, are counted in numbers."""
        whole = types.intp
        signature = types.void(left, whole, whole, whole, right, whole, whole, out, whole, types.boolean)

        def generate(context, builder, signature, arguments):
            _, start, row, step, _, first, count, _, to, add = arguments
            lefts, rights, outs = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 4, 7)
            )
            number, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
            )

            def at(data, index):
                """A pointer to the 16 lanes that begin at a number's index."""
                return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

            def load(pointer):
                loaded = builder.load(pointer)
                loaded.align = 4
                return loaded

            def times_lanes(index):
                return builder.mul(index, number(LANES))

            places = [at(outs, times_lanes(builder.add(to, number(r)))) for r in range(rows)]
            sums = [cgutils.alloca_once(builder, vector) for _ in range(rows)]
            with builder.if_else(add) as (yes, no):
                with yes:
                    for place, total in zip(places, sums, strict=True):
                        builder.store(load(place), total)
                with no:
                    for total in sums:
                        builder.store(vector([0.0] * LANES), total)
            begins = [builder.gep(lefts, [builder.add(start, builder.mul(row, number(r)))]) for r in range(rows)]
            undefined, same = vector(ir.Undefined), ir.VectorType(ir.IntType(32), LANES)([0] * LANES)
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            prefetch = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0"
            )
            with cgutils.for_range(builder, count) as loop:
                lanes = load(at(rights, times_lanes(builder.add(first, loop.index))))
                along = builder.mul(loop.index, step)
                soon = builder.gep(begins[0], [builder.add(along, number(AHEAD))])
                builder.call(prefetch, [builder.bitcast(soon, byte), flag(0), flag(3), flag(1)])  # read, keep, data
                for begin, total in zip(begins, sums, strict=True):
                    one = builder.load(builder.gep(begin, [along]))
                    one = builder.insert_element(undefined, one, ir.IntType(32)(0))
                    one = builder.shuffle_vector(one, undefined, same)
                    builder.store(builder.call(fma, [one, lanes, builder.load(total)]), total)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place).align = 4
            return context.get_dummy_value()

        return signature, generate

    return tile


@intrinsic
def _bits(typing, value):
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda _, builder, __, values: builder.bitcast(values[0], ir.IntType(32))


@intrinsic
def _from_bits(typing, value):
    """The float32 that an int32 holds the bits of."""
    return types.float32(types.int32), lambda _, builder, __, values: builder.bitcast(values[0], ir.FloatType())


_tile, _row = _tile_of(ROWS), _tile_of(1)


@vectorised
def _exp(x):
    """e^x of a float32 (the polynomial of Cephes' expf), in operations that turn into vectors."""
    x = min(max(x, np.float32(-87)), np.float32(88))
    power = _bits(x * _LOG2_E + _ROUND) - _ROUND_BITS
    x = x - np.float32(power) * _LN_2
    y = _POLYNOMIAL[0]
    y = y * x + _POLYNOMIAL[1]
    y = y * x + _POLYNOMIAL[2]
    y = y * x + _POLYNOMIAL[3]
    y = y * x + _POLYNOMIAL[4]
    y = y * x + _POLYNOMIAL[5]
    y = y * x * x + x + _ONE
    return y * _from_bits(np.int32((power + np.int32(127)) << np.int32(23)))


@vectorised
def _product(left, start, advance, row, step, num_rows, num_panels, right, count, out, to, add):
    """Rows of numbers times panels: see `_tile`. Everything lies flat.

    Rows begin every `advance` numbers from `start`; within a tile they lie `row`, and their numbers `step` apart.
    Panels of right have `count` rows of 16, those of out `num_rows`, the first from row `to` on.
    """
    whole = num_rows - num_rows % ROWS
    for r in range(0, whole, ROWS):
        for g in range(num_panels):
            _tile(left, start + r * advance, row, step, right, g * count, count, out, to + g * num_rows + r, add)
    start += whole * (advance - row)
    for r in range(whole, num_rows):
        for g in range(num_panels):
            _row(left, start + r * row, row, step, right, g * count, count, out, to + g * num_rows + r, add)


@vectorised
def _multiply(weight, panels, out, add):
    """A packed weight (N, K) times panels (G, K, 16): out (G, N, 16), or added to it."""
    count, rows = panels.shape[1], out.shape[1]
    flat = weight.reshape(-1)
    _product(flat, 0, count, 1, ROWS, rows, len(panels), panels.reshape(-1), count, out.reshape(-1), 0, add)


@vectorised
def _inverse_rms(panel, inverse):
    """One over the root mean square of each lane of a panel (K, 16)."""
    inverse[:] = _ZERO
    for k in range(len(panel)):
        for lane in range(LANES):
            inverse[lane] += panel[k, lane] * panel[k, lane]
    for lane in range(LANES):
        inverse[lane] = _ONE / np.sqrt(inverse[lane] / np.float32(len(panel)) + np.float32(1e-6))


@vectorised
def _norm(x, gain, out):
    """The root-mean-square norm of panels x (G, D, 16), times a gain (D,)."""
    inverse = np.empty(LANES, np.float32)
    for g in range(len(x)):
        _inverse_rms(x[g], inverse)
        for k in range(len(gain)):
            for lane in range(LANES):
                out[g, k, lane] = x[g, k, lane] * inverse[lane] * gain[k]


@vectorised
def _position(head, cosine, sine, scale):
    """Norm a head's panel (d, 16) and rotate it by cosines and sines (pairs, 16), in place; times a scale."""
    inverse = np.empty(LANES, np.float32)
    _inverse_rms(head, inverse)
    pairs = len(cosine)
    for k in range(len(head)):
        for lane in range(LANES):
            head[k, lane] *= inverse[lane] * scale
    for k in range(pairs):
        for lane in range(LANES):
            first, second = head[k, lane], head[k + pairs, lane]
            head[k, lane] = first * cosine[k, lane] - second * sine[k, lane]
            head[k + pairs, lane] = first * sine[k, lane] + second * cosine[k, lane]


@vectorised
def _mix_values(value, first, gate, bias, is_first):
    """Values (D, 16) moved towards the first layer's by each head's gate (heads, 16), before its sigmoid; the first
    layer's are kept in `first` instead."""
    head_dim = len(value) // len(gate)
    share = np.empty(LANES, np.float32)
    for head in range(len(gate)):
        for lane in range(LANES):
            share[lane] = _ZERO if is_first else _ONE / (_ONE + _exp(-(gate[head, lane] + bias[head])))
        for k in range(head * head_dim, (head + 1) * head_dim):
            for lane in range(LANES):
                if is_first:
                    first[k, lane] = value[k, lane]
                value[k, lane] += share[lane] * (first[k, lane] - value[k, lane])


@vectorised
def _remember(panel, ring, start, count):
    """Write a panel's first `count` lanes (heads * d, 16) into a sample's ring (heads, elements, d) from `start`."""
    heads, _, head_dim = ring.shape
    for head in range(heads):
        for lane in range(count):
            for k in range(head_dim):
                ring[head, start + lane, k] = panel[head * head_dim + k, lane]


@vectorised
def _attend(query, keys, values, spans, read, scores, ones, sums):
    """What one head's queries (d, 16), scaled, read from keys and values (elements, d) in spans (count, 2) of them.

    Queries and keys are normed, so no score is beyond the root of d, and softmax need not look for the largest.
    """
    head_dim = keys.shape[1]
    read[:], sums[:] = _ZERO, _ZERO
    flat_keys, flat_values, flat_query, flat_read = (
        keys.reshape(-1),
        values.reshape(-1),
        query.reshape(-1),
        read.reshape(-1),
    )
    for span in range(len(spans)):
        for first in range(spans[span, 0], spans[span, 1], KEYS):
            count = min(KEYS, spans[span, 1] - first)
            start = first * head_dim
            _product(flat_keys, start, head_dim, head_dim, 1, count, 1, flat_query, head_dim, scores, 0, False)
            for i in range(count * LANES):
                scores[i] = _exp(scores[i])
            _product(ones, 0, 0, 0, 0, 1, 1, scores, count, sums, 0, True)
            _product(flat_values, start, 1, 1, head_dim, head_dim, 1, scores, count, flat_read, 0, True)
    for k in range(head_dim):
        for lane in range(LANES):
            read[k, lane] /= sums[lane]


@vectorised
def _gated(expanded, out):
    """SwiGLU between its products: expanded (G, 2F, 16), values then gates -> out (G, F, 16)."""
    hidden = out.shape[1]
    for g in range(len(out)):
        value, gate = expanded[g, :hidden].reshape(-1), expanded[g, hidden:].reshape(-1)
        to = out[g].reshape(-1)
        for i in range(hidden * LANES):
            to[i] = value[i] * gate[i] / (_ONE + _exp(-gate[i]))


@vectorised
def blocks(
    x, norms, enter, gate_bias, leave, expand, contract, keys, values, first, places, spans, cosines, sines, count
):
    """All blocks over panels x (B * P * C, D, 16) of the samples from `first` on, in place: see `cached_blocks`.

    C panels hold the `count` elements of a place. cosines, sines: (P * C, pairs, 16).
    """
    num_panels, dim = x.shape[:2]
    heads, head_dim = keys.shape[2], keys.shape[4]
    parts = len(cosines) // len(places)  # panels of a place
    hidden = contract.shape[2]
    scale, one = np.float32(head_dim**-0.5), _ONE
    normed = np.empty((num_panels, dim, LANES), np.float32)
    read = np.empty((num_panels, dim, LANES), np.float32)
    first_values = np.empty((num_panels, dim, LANES), np.float32)
    entered = np.empty((num_panels, 3 * dim + heads, LANES), np.float32)
    expanded = np.empty((num_panels, 2 * hidden, LANES), np.float32)
    gated = np.empty((num_panels, hidden, LANES), np.float32)
    scores, sums, ones = np.empty(KEYS * LANES, np.float32), np.empty(LANES, np.float32), np.ones(1, np.float32)
    for layer in range(len(norms)):
        _norm(x, norms[layer, 0], normed)
        _multiply(enter[layer], normed, entered, False)
        for g in range(num_panels):
            table = g % len(cosines)
            place, part, sample = table // parts, table % parts, first + g // len(cosines)
            for head in range(heads):
                queries = entered[g, head * head_dim : (head + 1) * head_dim]
                _position(queries, cosines[table], sines[table], scale)
                new = entered[g, dim + head * head_dim : dim + (head + 1) * head_dim]
                _position(new, cosines[table], sines[table], one)
            value = entered[g, 2 * dim : 3 * dim]
            _mix_values(value, first_values[g], entered[g, 3 * dim :], gate_bias[layer], layer == 0)
            start, filled = places[place] + part * LANES, min(LANES, count - part * LANES)
            _remember(entered[g, dim : 2 * dim], keys[layer, sample], start, filled)
            _remember(value, values[layer, sample], start, filled)
        for g in range(num_panels):
            table = g % len(cosines)
            sample, place = first + g // len(cosines), table // parts
            for head in range(heads):
                span = slice(head * head_dim, (head + 1) * head_dim)
                _attend(
                    entered[g, span],
                    keys[layer, sample, head],
                    values[layer, sample, head],
                    spans[sample, place],
                    read[g, span],
                    scores,
                    ones,
                    sums,
                )
        _multiply(leave[layer], read, x, True)
        _norm(x, norms[layer, 1], normed)
        _multiply(expand[layer], normed, expanded, False)
        _gated(expanded, gated)
        _multiply(contract[layer], gated, x, True)


@vectorised
def logits(x, gain, leave, bias, codebook, squares, scale, out):
    """Panels x (G, D, 16) -> out (R, K), the first R lanes' logits: see `code_logits`."""
    num_panels, width, num_codes = len(x), len(bias), len(squares)
    normed, query = np.empty_like(x), np.empty((num_panels, width, LANES), np.float32)
    products, norms = np.empty((num_panels, num_codes, LANES), np.float32), np.zeros((num_panels, LANES), np.float32)
    _norm(x, gain, normed)
    _multiply(leave, normed, query, False)
    for g in range(num_panels):
        for k in range(width):
            for lane in range(LANES):
                query[g, k, lane] += bias[k]
                norms[g, lane] += query[g, k, lane] * query[g, k, lane]
    _multiply(codebook, query, products, False)
    for r in range(len(out)):
        g, lane = r // LANES, r % LANES
        for code in range(num_codes):
            squared = squares[code] + norms[g, lane] - np.float32(2) * products[g, code, lane]
            out[r, code] = -scale * np.sqrt(max(squared, np.float32(1e-6)))
