"""Transformer blocks over the elements of a few steps, with the keys and values of all earlier ones in a ring, and the
logits of what they give.

What a rollout asks of `oneiros.world.nn.dynamics`, for one residual stream, in two calls: on CPUs a step is so small
that calling an operator costs as much as its work. The dynamics itself is the reference.

Legend: B batch, P places (steps of a frame, m elements each), D width, F width of the feed-forward, H heads, d channels
of a head, E elements of the ring, C width of a codebook vector, K codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from oneiros.ops.threads import in_threads

LANES, ROWS = 16, 4  # as in `cpu`, which is imported where it is used: numba takes a second


@dataclass(frozen=True)
class BlockWeights:
    """The weights of all blocks, float32, a row for each layer; matrices are `packed`.

    norms: (2, D), the gains before attention and before the feed-forward. enter: (3D + H, D), which gives queries,
    keys, values and how much of the first layer's values are mixed in, with gate_bias (H,). leave: (D, D). expand:
    (2F, D). contract: (D, F).
    """

    norms: np.ndarray
    enter: np.ndarray
    gate_bias: np.ndarray
    leave: np.ndarray
    expand: np.ndarray
    contract: np.ndarray


def stacked(tensors: Sequence[Tensor]) -> np.ndarray:
    """One tensor for each layer, float32."""
    return torch.stack([tensor.detach().float() for tensor in tensors]).numpy()


def packed(weights: Sequence[Tensor]) -> np.ndarray:
    """One matrix (N, K) for each layer, its numbers in the order in which a product reads them: column by column of
    four rows, then of the next four, the last filled up with zeros. Returns (layers, N / 4, K, 4)."""
    matrices = stacked(weights)
    layers, rows, columns = matrices.shape
    tiles = -(-rows // ROWS)
    padded = np.zeros((layers, tiles * ROWS, columns), np.float32)
    padded[:, :rows] = matrices
    return np.ascontiguousarray(padded.reshape(layers, tiles, ROWS, columns).swapaxes(2, 3))


def to_lanes(x: np.ndarray) -> np.ndarray:
    """Elements (..., m, D) in panels of 16: (..., C, D, 16) where C * 16 is at least m, filled up with zeros."""
    *most, count, dim = x.shape
    panels = -(-count // LANES)
    padded = np.zeros((*most, panels * LANES, dim), np.float32)
    padded[..., :count, :] = x
    return np.ascontiguousarray(padded.reshape(*most, panels, LANES, dim).swapaxes(-1, -2))


def from_lanes(panels: np.ndarray, count: int) -> np.ndarray:
    """The `count` elements (..., m, D) that `to_lanes` made panels of."""
    elements = panels.swapaxes(-1, -2)
    return elements.reshape(*elements.shape[:-3], -1, elements.shape[-1])[..., :count, :]


def cached_blocks(
    x: Tensor,
    weights: BlockWeights,
    keys: Tensor,
    values: Tensor,
    places: np.ndarray,
    spans: np.ndarray,
    rotary: np.ndarray,
) -> Tensor:
    """All blocks over x (B, P, m, D) -> (B, P, m, D); everything float32 on the CPU.

    keys, values: (layers, B, H, E, d), of which the elements of each place are overwritten from `places` (P,) on.
    spans: int64 (B, P, S, 2), first and last of the runs of ring elements that a place sees, its own among them; runs
    may be empty. rotary: cosines and sines (2, P, C, pairs, 16) in lanes.
    """
    from oneiros.ops.cached_blocks import cpu

    batch, count = len(x), x.shape[2]
    panels = to_lanes(x.detach().numpy())
    cosines, sines = rotary.reshape(2, -1, *rotary.shape[-2:])
    threads = min(batch, torch.get_num_threads())
    bounds = [batch * thread // threads for thread in range(threads + 1)]
    shared = vars(weights).values()
    in_threads(
        lambda first, last: cpu.blocks(
            panels[first:last].reshape(-1, *panels.shape[-2:]),
            *shared,
            keys.numpy(),
            values.numpy(),
            first,
            places,
            spans,
            cosines,
            sines,
            count,
        ),
        list(pairwise(bounds)),
    )
    return torch.from_numpy(from_lanes(panels, count))


@dataclass(frozen=True)
class HeadWeights:
    """What turns outputs to logits, float32. gain: (D,) of their norm. leave: (C, D), `packed`, and bias (C,).
    codebook: (K, C), `packed`, and squares (K,), its squared lengths. scale: of the logits."""

    gain: np.ndarray
    leave: np.ndarray
    bias: np.ndarray
    codebook: np.ndarray
    squares: np.ndarray
    scale: np.float32


def code_logits(x: Tensor, weights: HeadWeights) -> Tensor:
    """Outputs x (R, D), float32 on the CPU -> logits (R, K): negative distances to each code times the scale."""
    from oneiros.ops.cached_blocks import cpu

    out = torch.empty(len(x), len(weights.squares))
    cpu.logits(to_lanes(x.detach().numpy()), *vars(weights).values(), out.numpy())
    return out
