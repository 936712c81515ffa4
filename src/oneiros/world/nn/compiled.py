"""A dynamics compiled for dreams on CPUs: one call for all blocks, one for the logits, and what is the same every step.

Legend: B batch, P places (steps of a frame, m elements each), L = P * m elements, D width, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from oneiros.ops.cached_blocks import BlockWeights, HeadWeights, cached_blocks, code_logits, packed, stacked, to_lanes
from oneiros.world.nn.blocks import DynamicsBlock
from oneiros.world.nn.layout import TokenLayout, visible_spans
from oneiros.world.nn.rope import frequencies


class CompiledDynamics:
    """A dynamics with one residual stream as it is now, in float32, with what a run needs to know of its layout.

    contents: what enters for each entry of the codebook (L, K, D). positions: of the elements of a frame (E, D).
    """

    def __init__(
        self,
        blocks: Sequence[DynamicsBlock],
        layout: TokenLayout,
        head: HeadWeights,
        *,
        contents: Tensor,
        positions: Tensor,
        periods: Sequence[float],
        window: int,
        num_meta_tokens: int,
        of_meta: tuple[Tensor, Tensor],
    ) -> None:
        """periods: of the rotary positions in time, rows and columns. of_meta: keys and values of the meta tokens."""
        self._weights, self._head = _weights_of(blocks), head
        self.contents, self.positions = contents.detach(), positions.detach()
        self._layout, self._window, self._num_meta, self.of_meta = layout, window, num_meta_tokens, of_meta
        in_time, *in_space = frequencies(blocks[0].attention.head_dim, periods)
        angles = [axis[:, None] * of for axis, of in zip((layout.row, layout.column), in_space, strict=True)]
        steps = torch.cat(angles, 1).unflatten(0, (layout.num_steps, -1))
        self._time_frequencies = in_time.numpy()
        self._step_angles = to_lanes(torch.stack([steps.cos(), steps.sin()]).float().numpy())

    def run(
        self, x: Tensor, keys: Tensor, values: Tensor, slots: np.ndarray, places: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Outputs (B, L, D) of elements x (B, L, D) at `places`, each a frame index and a step, whose keys and values
        are written into the ring. slots: the frame that each slot of the ring holds (B, S), those of `places`
        included."""
        layout, m = self._layout, self._layout.tokens_per_step
        num_slots, meta = slots.shape[1], self._num_meta
        starts = [meta + time % num_slots * layout.num_elements + step * m for time, step in places]
        spans = np.zeros((len(x), len(places), num_slots + 1, 2), np.int64)
        spans[:, :, 0, 1] = meta
        for place, (time, step) in enumerate(places):
            spans[:, place, 1:] = meta + visible_spans(slots, layout, time, step, self._window)
        out = cached_blocks(
            x.float().unflatten(1, (len(places), m)),
            self._weights,
            keys,
            values,
            np.array(starts),
            spans,
            self._rotary(places),
        )
        return out.flatten(1, 2)

    def logits(self, outputs: Tensor) -> Tensor:
        """Outputs (..., D) -> logits (..., K)."""
        return code_logits(outputs.float().flatten(0, -2), self._head).unflatten(0, outputs.shape[:-1])

    def _rotary(self, places: Sequence[tuple[int, int]]) -> np.ndarray:
        """Cosines and sines (2, P, C, pairs, 16) of the places' elements."""
        times, steps = np.array(places).T
        in_space = self._step_angles[:, steps]
        angle = times[:, None] * self._time_frequencies
        in_time = np.stack([np.cos(angle), np.sin(angle)])[:, :, None, :, None].astype(np.float32)
        shape = (*in_space.shape[:3], in_time.shape[3], in_space.shape[4])
        return np.concatenate([np.broadcast_to(in_time, shape), in_space], 3)


def head_weights(gain: Tensor, leave: nn.Linear, codebook: Tensor, scale: Tensor) -> HeadWeights:
    """Of a norm's gain (D,), the product that leaves, and the codebook (K, C) its results are compared with."""
    return HeadWeights(
        gain=stacked([gain])[0],
        leave=packed([leave.weight])[0],
        bias=stacked([leave.bias])[0],
        codebook=packed([codebook])[0],
        squares=stacked([codebook.square().sum(-1)])[0],
        scale=np.float32(scale.item()),
    )


def _weights_of(blocks: Sequence[DynamicsBlock]) -> BlockWeights:
    attentions, feed_forwards = [block.attention for block in blocks], [block.feed_forward for block in blocks]
    enter, bias = [], []
    for attention in attentions:
        value, gate = attention.value.weight, attention.gate
        gates = value.new_zeros(attention.heads, value.shape[1]) if gate is None else gate.weight
        enter.append(torch.cat([attention.query_key.weight, value, gates]))
        bias.append(value.new_zeros(attention.heads) if gate is None else gate.bias)
    return BlockWeights(
        norms=stacked([torch.stack([block.attention_norm.weight, block.feed_forward_norm.weight]) for block in blocks]),
        enter=packed(enter),
        gate_bias=stacked(bias),
        leave=packed([attention.output.weight for attention in attentions]),
        expand=packed([feed_forward.expand.weight for feed_forward in feed_forwards]),
        contract=packed([feed_forward.contract.weight for feed_forward in feed_forwards]),
    )
