"""A transformer that denoises chunks of actions: an encoder of what is known, a decoder of what is to be done.

The encoder runs once a decision, and so do the decoder's keys and values of what it found; only the decoder itself runs
in every denoising step. The manner is Video Prediction Policy's (arXiv 2412.14803); unlike there, the actions of a
chunk have positions, and the decoder sees a first guess of the chunk, made from what is known by regression. Denoising
alone asks little of the encoder, as a chunk with moderate noise tells most of itself.

Legend: B batch, M tokens known, D width, R noisy chunks of a sample, L actions of a chunk, A numbers of an action,
H heads, d channels of a head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oneiros.nn.attention import attend, check_counts
from oneiros.video_former.layers import SelfAttention

_FREQUENCIES = 32  # of the noise level's embedding, from a quarter to sixteen turns a unit


class DecoderInput(NamedTuple):
    """What the decoder reads: keys and values of each layer, (B, H, M, d) each, and the first guess (B, 1, L, A)."""

    keys: list[tuple[Tensor, Tensor]]
    guess: Tensor


class PolicyHead(nn.Module):
    """`encode`, make the `decoder_input` of it, then `forward` as often as needed.

    dim: D, which `heads` divides. encoder_depth, decoder_depth: layers. num_tokens: M. horizon: L. action_dim: A.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        encoder_depth: int,
        decoder_depth: int,
        num_tokens: int,
        horizon: int,
        action_dim: int,
    ) -> None:
        super().__init__()
        check_counts({"encoder_depth": encoder_depth, "decoder_depth": decoder_depth, "num_tokens": num_tokens})
        check_counts({"horizon": horizon, "action_dim": action_dim})
        self.dim, self.heads, self.depth, self.shape = dim, heads, decoder_depth, (horizon, action_dim)
        self.token_position = nn.Parameter(torch.randn(num_tokens, dim) * 0.02)
        self.encoder = nn.ModuleList(EncoderLayer(dim=dim, heads=heads) for _ in range(encoder_depth))
        self.context_norm = nn.LayerNorm(dim)
        self.context = nn.Linear(dim, decoder_depth * 2 * dim)  # keys and values of all layers
        self.guess = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, horizon * action_dim))
        self.enter, self.enter_guess = nn.Linear(action_dim, dim), nn.Linear(action_dim, dim, bias=False)
        self.chunk_position = nn.Parameter(torch.randn(horizon, dim) * 0.5)
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())
        self.film = nn.Linear(dim, (2 * decoder_depth + 1) * 2 * dim)
        self.decoder = nn.ModuleList(DecoderLayer(dim=dim, heads=heads) for _ in range(decoder_depth))
        self.leave_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.leave = nn.Linear(dim, action_dim)
        frequencies = 2 * math.pi * torch.logspace(-2, 4, _FREQUENCIES, base=2.0)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Branches begin small, and the noise level is felt a little from the start; nothing is predicted yet."""
        for layers, branches in ((self.encoder, 2), (self.decoder, 3)):
            for layer in layers:
                for end in layer.ends:  # type: ignore[union-attr]
                    end.weight.mul_((branches * len(layers)) ** -0.5)
                    if end.bias is not None:
                        end.bias.zero_()
        self.film.weight.mul_(0.1)
        self.film.bias.zero_()
        self.leave.weight.zero_()
        self.leave.bias.zero_()

    def encode(self, tokens: Tensor) -> Tensor:
        """tokens (B, M, D) -> context (B, M, D)."""
        x = tokens + self.token_position
        for layer in self.encoder:
            x = layer(x)
        return self.context_norm(x)

    def decoder_input(self, context: Tensor) -> DecoderInput:
        """context (B, M, D) -> keys, values and a first guess, made from the first token's place, for the decoder."""
        both = self.context(context).unflatten(-1, (self.depth, 2, self.heads, -1))
        guess = self.guess(context[:, 0]).float().view(len(context), 1, *self.shape)
        return DecoderInput([(key, value) for key, value in both.permute(2, 3, 0, 4, 1, 5)], guess)

    def modulation(self, level: Tensor) -> Tensor:
        """Noise levels (...) as `Preconditioning` gives them -> scales and shifts of all layers (..., 2 n + 1, 2 D)."""
        angles = level[..., None] * self.frequencies
        return self.film(self.level(torch.cat([angles.sin(), angles.cos()], -1))).unflatten(-1, (-1, 2 * self.dim))

    def forward(self, noisy: Tensor, modulation: Tensor, inputs: DecoderInput) -> Tensor:
        """noisy (B, R, L, A), scaled to unit variance; modulation (B or 1, R or 1, 2 n + 1, 2 D) -> (B, R, L, A).

        The guess is only looked at: its own loss alone teaches it.
        """
        x = self.enter(noisy) + self.enter_guess(inputs.guess.detach()) + self.chunk_position
        films = modulation[..., None, :].unbind(2)
        for index, (layer, (key, value)) in enumerate(zip(self.decoder, inputs.keys, strict=True)):
            x = layer(x, films[2 * index], films[2 * index + 1], key, value)
        return self.leave(film(self.leave_norm(x), films[-1]))


class EncoderLayer(nn.Module):
    """Tokens look at one another and pass a feed-forward."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim=dim, heads=heads)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    @property
    def ends(self) -> tuple[nn.Linear, ...]:
        """The last map of each branch."""
        return self.attention.proj, self.feed_forward[-1]  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class DecoderLayer(nn.Module):
    """Actions of a chunk look at one another, then at the context, and pass a feed-forward."""

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.feed_forward_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.look_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim=dim, heads=heads)
        self.query, self.look = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    @property
    def ends(self) -> tuple[nn.Linear, ...]:
        """The last map of each branch."""
        return self.attention.proj, self.look, self.feed_forward[-1]  # type: ignore[return-value]

    def forward(self, x: Tensor, first: Tensor, second: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """x (B, R, L, D); first, second: scales and shifts (B or 1, R or 1, 1, 2 D); key, value (B, H, M, d)."""
        batch, draws = x.shape[:2]
        normed = film(self.attention_norm(x), first)
        x = x + self.attention(normed.flatten(0, 1)).unflatten(0, (batch, draws))
        # chunks of one sample ask the same context: together, so that it is not copied for each
        query = self.query(self.look_norm(x)).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        read = attend(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.look(read).unflatten(1, (draws, -1))
        return x + self.feed_forward(film(self.feed_forward_norm(x), second))


def film(x: Tensor, modulation: Tensor) -> Tensor:
    """x (..., D) scaled and shifted by (..., 2 D) (FiLM, arXiv 1709.07871)."""
    scale, shift = modulation.chunk(2, -1)
    return torch.addcmul(shift.to(x.dtype), x, 1 + scale.to(x.dtype))
