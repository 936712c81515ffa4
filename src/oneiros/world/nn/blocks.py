"""Transformer blocks whose attention is asked of a memory, so that training and the cache share one code path.

Legend: B batch, L elements, D width, S residual streams, d channels of a head.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.world.nn.norm import RMSNorm, rms_norm
from oneiros.world.nn.rope import rotate


class Memory(Protocol):
    """What a layer attends to: the whole clip in training, the ring of past frames in a rollout."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All tensors (B, heads, L, d); returns what the queries read."""
        ...


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys, and values mixed with the first layer's.

    Value residual: arXiv 2410.17897, here with a learned gate per head and element. Query-key norm: arXiv 2010.04245,
    without gains, so that one kernel serves both.
    """

    def __init__(self, *, dim: int, heads: int, head_dim: int, layer: int) -> None:
        super().__init__()
        self.heads, self.head_dim, self.layer = heads, head_dim, layer
        inner = heads * head_dim
        self.query_key = nn.Linear(dim, 2 * inner, bias=False)
        self.value = nn.Linear(dim, inner, bias=False)
        self.gate = nn.Linear(dim, heads) if layer > 0 else None
        self.output = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, memory: Memory, rotary: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B, L, D) -> what was read (B, L, D), and this layer's values (B, L, heads, d)."""
        query_key = self.query_key(x).unflatten(-1, (2 * self.heads, self.head_dim))
        query_key = rotate(rms_norm(query_key), rotary)
        query, key = query_key.split(self.heads, dim=2)
        value = self.value(x).unflatten(-1, (self.heads, self.head_dim))
        if self.gate is not None and first_values is not None:
            value = torch.lerp(value, first_values, self.gate(x).sigmoid()[..., None])
        read = memory.attend(self.layer, query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.output(read.transpose(1, 2).flatten(2)), value


class SwiGLU(nn.Module):
    """Gated feed-forward (arXiv 2002.05202) at 8/3 of the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = -(-dim * 8 // 3 // 32) * 32
        self.expand = nn.Linear(dim, 2 * hidden, bias=False)
        self.contract = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, -1)
        return self.contract(F.silu(gate) * value)


class Residual(nn.Module):
    """The residual connection around a branch: plain for one stream, hyper-connections for more (arXiv 2409.19606).

    Streams are (B, L, S, D); with one stream, (B, L, D).
    """

    def __init__(self, *, dim: int, streams: int, index: int) -> None:
        super().__init__()
        self.streams = streams
        if streams > 1:
            self.norm = RMSNorm(dim)
            # Columns: what the branch reads, then how the streams mix. Starts as a plain residual on one stream.
            start = torch.cat([F.one_hot(torch.tensor([index % streams]), streams).T, torch.eye(streams)], 1)
            self.mix = nn.Parameter(start.float())
            self.spread = nn.Parameter(torch.ones(streams))
            self.dynamic_mix = nn.Parameter(torch.zeros(dim, streams + 1))
            self.dynamic_spread = nn.Parameter(torch.zeros(dim))
            self.dynamic_scale = nn.Parameter(torch.full((2,), 0.01))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Streams -> the branch's input (B, L, D), the streams that carry on, and the weights of `write`."""
        if self.streams == 1:
            return x, x, None
        normed = self.norm(x)
        mix = self.mix + self.dynamic_scale[0] * (normed @ self.dynamic_mix).tanh()
        spread = self.spread + self.dynamic_scale[1] * (normed @ self.dynamic_spread).tanh()
        mixed = mix.to(x.dtype).transpose(-1, -2) @ x
        return mixed[..., 0, :], mixed[..., 1:, :], spread

    def write(self, carried: Tensor, branch: Tensor, spread: Tensor | None) -> Tensor:
        """The branch's output (B, L, D) added to the streams that `read` carried on."""
        if spread is None:
            return carried + branch
        return carried + spread[..., None] * branch[..., None, :]


class DynamicsBlock(nn.Module):
    """Attention, then feed-forward, each normalised before and added to the residual streams."""

    def __init__(self, *, dim: int, heads: int, head_dim: int, layer: int, streams: int) -> None:
        super().__init__()
        self.attention_residual = Residual(dim=dim, streams=streams, index=2 * layer)
        self.attention_norm = RMSNorm(dim)
        self.attention = Attention(dim=dim, heads=heads, head_dim=head_dim, layer=layer)
        self.feed_forward_residual = Residual(dim=dim, streams=streams, index=2 * layer + 1)
        self.feed_forward_norm = RMSNorm(dim)
        self.feed_forward = SwiGLU(dim)

    def forward(self, x: Tensor, memory: Memory, rotary: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor]:
        read, carried, spread = self.attention_residual.read(x)
        branch, values = self.attention(self.attention_norm(read), memory, rotary, first_values)
        x = self.attention_residual.write(carried, branch, spread)
        read, carried, spread = self.feed_forward_residual.read(x)
        branch = self.feed_forward(self.feed_forward_norm(read))
        return self.feed_forward_residual.write(carried, branch, spread), values
