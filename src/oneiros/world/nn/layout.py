"""How the codes of one frame are ordered into the steps of a causal sequence.

A frame is a block of S = N/m + 1 steps of m elements. Step 0 holds m action elements; step s >= 1 holds the codes of
group s. The i-th output of step s predicts the i-th code of group s + 1; the last step predicts nothing.

Groups lie on a coarse lattice, so that codes drawn together are far apart and the first group is a coarse picture of
the frame: parallelised autoregressive generation (arXiv 2412.15119) and REM's parallel observation prediction
(arXiv 2402.05643).

Legend: N codes per frame, m codes per step, S steps per frame, E = S * m elements per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def lattice(height: int, width: int, tokens_per_step: int) -> tuple[int, int]:
    """The strides (p, q) between codes drawn together: p * q groups, as square as possible, p <= q on ties."""
    num_codes = height * width
    if tokens_per_step < 1 or num_codes % tokens_per_step:
        raise ValueError(f"tokens_per_step is {tokens_per_step}; it must divide the {num_codes} codes of a frame")
    groups = num_codes // tokens_per_step
    splits = [
        (p, groups // p)
        for p in range(1, groups + 1)
        if groups % p == 0 and height % p == 0 and width % (groups // p) == 0
    ]
    if not splits:
        raise ValueError(
            f"tokens_per_step is {tokens_per_step}; its {groups} groups do not tile a grid of {height} x {width} codes"
        )
    return min(splits, key=lambda split: (abs(split[0] - split[1]), split[0]))


def bit_reversed(count: int) -> list[int]:
    """0 .. count-1 in bit-reversed order, so that any prefix is spread evenly."""
    bits = max(count - 1, 1).bit_length()
    return sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))


def code_order(height: int, width: int, tokens_per_step: int) -> Tensor:
    """int64 (N/m, m): raster indices of the codes of each group, in the order they are generated."""
    raster = torch.arange(height * width).view(height, width)
    if tokens_per_step == 1:
        return raster.reshape(-1, 1)
    p, q = lattice(height, width, tokens_per_step)
    return torch.stack([raster[g // q :: p, g % q :: q].flatten() for g in bit_reversed(p * q)])


@dataclass(frozen=True)
class TokenLayout:
    """Index tables of one frame's block.

    order: int64 (N,), raster index of each code in generation order; inverse: its inverse permutation.
    step: int64 (E,), step of each element.
    own: int64 (E,), raster index of the element's code; N for action elements.
    target: int64 (E,), raster index of the code that the element's output predicts; N for none.
    row, column: int64 (E,), grid position for the rotary embedding (an action element takes its target's).
    """

    num_codes: int
    tokens_per_step: int
    order: Tensor
    inverse: Tensor
    step: Tensor
    own: Tensor
    target: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def of(cls, height: int, width: int, tokens_per_step: int) -> TokenLayout:
        """The layout of a grid of height x width codes. Raises ValueError where steps do not tile it."""
        groups = code_order(height, width, tokens_per_step)
        nothing = torch.full((tokens_per_step,), height * width)
        own = torch.cat([nothing, groups.flatten()])
        target = torch.cat([groups.flatten(), nothing])
        place = torch.cat([groups[0], groups.flatten()])
        return cls(
            num_codes=height * width,
            tokens_per_step=tokens_per_step,
            order=groups.flatten(),
            inverse=groups.flatten().argsort(),
            step=torch.arange(len(groups) + 1).repeat_interleave(tokens_per_step),
            own=own,
            target=target,
            row=place // width,
            column=place % width,
        )

    @property
    def num_steps(self) -> int:
        """S, steps of a frame."""
        return self.num_codes // self.tokens_per_step + 1

    @property
    def num_elements(self) -> int:
        """E, elements of a frame."""
        return self.num_codes + self.tokens_per_step


def visible(query_time: Tensor, query_step: Tensor, key_time: Tensor, key_step: Tensor, window: int) -> Tensor:
    """The one mask rule, for training and for the cache: bool (queries, keys), True where a query may look.

    All arguments but `window` (frames) are int64 vectors, one entry an element; key_time may be (B, keys), where the
    samples of a batch hold other frames, which makes the mask (B, queries, keys).
    """
    age = query_time[:, None] - key_time[..., None, :]
    earlier = (age > 0) | (key_step[None, :] <= query_step[:, None])
    return (age >= 0) & (age < window) & earlier


def visible_spans(slots: np.ndarray, layout: TokenLayout, time: int, step: int, window: int) -> np.ndarray:
    """`visible` for a query at (time, step) where slot after slot holds all elements of a frame: int64 (B, S, 2), for
    each slot the first of the elements that it may look at, and the one after the last. slots: the frame indices
    (B, S), of which samples may hold others."""
    size = layout.num_elements
    age = time - slots
    seen = np.where(age > 0, size, (step + 1) * layout.tokens_per_step) * ((age >= 0) & (age < window))
    first = np.broadcast_to(np.arange(slots.shape[1]) * size, slots.shape)
    return np.stack([first, first + seen], -1)
