"""What a world expects to come by itself, with the hidden states in which it expects it.

Legend: B batch, O frames observed, F imagined, T = O + F, N codes per frame, m codes per step, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oneiros.sampling import Sampling
from oneiros.world.nn.dynamics import Dynamics
from oneiros.world.nn.sampling import chooser
from oneiros.world.state import WorldState


def imagined(
    dynamics: Dynamics,
    codes: Tensor,
    conditions: Tensor,
    null: Tensor,
    count: int,
    layers: Sequence[int],
    lookback: int,
) -> tuple[Tensor, Tensor]:
    """Codes int64 (B, T, N) and features float32 (B, T, N, D) of a clip of codes (B, O, N), led into by conditions
    (B, O, D), and of the likeliest `count` frames after it, led into by `null` (B, D). layers: see `World.imagine`."""
    state, outputs = WorldState.begun(dynamics, codes, conditions, lookback=lookback)
    layout, choose = dynamics.layout, chooser(Sampling(temperature=0.0), None, len(codes))
    frames, read = [codes], [outputs[:, :, layout.tokens_per_step :]]
    for number in range(count):
        state, frame, closing = state.stepped(null, choose, lookback=lookback)
        if number and closing is not None:  # the last step of the frame before is run along with the first of this
            read[-1] = torch.cat([read[-1], closing[:, None]], 2)
        frames.append(frame[:, None])
        read.append(state.outputs[:, None])
    if count:
        read[-1] = state.flushed().outputs[:, None]
    every, led = torch.cat(frames, 1), torch.cat([conditions, null[:, None].expand(-1, count, -1)], 1)
    features = torch.cat(read, 1)
    if layers:
        features = dynamics(every, led, layers=layers)[:, :, layout.tokens_per_step :]
    return every, features[:, :, layout.inverse.to(codes.device)].float()
