"""Actions as vectors, and guesses of the next action from vectors.

Legend: B batch, T frames, A names of the action spec, D width, k actions of the env per model step (frame stride).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.records import ActionSpec
from oneiros.world.nn.blocks import SwiGLU
from oneiros.world.nn.norm import RMSNorm


class ActionEmbedding(nn.Module):
    """One vector a frame, of the action that led into it: START before the first, NULL where unknown.

    discrete: one embedding. keys: the sum of the embeddings of the keys held, so order cannot matter. continuous: a
    small MLP on standardised values.
    """

    def __init__(self, *, spec: ActionSpec | None, dim: int, actions_per_step: int = 1) -> None:
        super().__init__()
        self.spec = spec
        self.start = nn.Parameter(torch.randn(dim) * 0.02)
        self.null = nn.Parameter(torch.randn(dim) * 0.02)
        if spec is None:
            self.embed = None
        elif spec.kind == "continuous":
            self.embed = nn.Sequential(nn.Linear(spec.size * actions_per_step, dim), nn.SiLU(), nn.Linear(dim, dim))
        else:
            self.embed = nn.Embedding(spec.size, dim)
            nn.init.normal_(self.embed.weight, std=0.5)

    def vectors(self, actions: Tensor) -> Tensor:
        """Actions (..., ) or (..., A) -> (..., D)."""
        assert self.spec is not None
        assert self.embed is not None
        if self.spec.kind == "keys":
            assert isinstance(self.embed, nn.Embedding)
            return actions.to(self.embed.weight.dtype) @ self.embed.weight
        if self.spec.kind == "continuous":
            return self.embed(self.spec.standardise(actions))
        return self.embed(actions)

    def forward(
        self,
        actions: Tensor | None,
        num_frames: int,
        batch_size: int,
        dropped: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Conditions (B, T, D) of a clip's frames from its T - 1 actions.

        actions: None = unknown throughout. dropped: bool (B,), samples whose actions are to be forgotten. known: bool
        (B, T - 1), which actions are known; None = all.
        """
        start = self.start.expand(batch_size, 1, -1)
        null = self.null.expand(batch_size, num_frames - 1, -1)
        if actions is None:
            return torch.cat([start, null], 1)
        led = self.vectors(actions)
        if known is not None:
            led = torch.where(known[..., None], led, null)
        if dropped is not None:
            led = torch.where(dropped[:, None, None], null, led)
        return torch.cat([start, led], 1)


@dataclass(frozen=True)
class KeyShape:
    """Of the decoder of held keys. max_keys: at most so many are held together. depth: layers. heads: of these.
    head_dim: channels of each. gated: SwiGLU instead of GELU."""

    max_keys: int = 10
    depth: int = 2
    heads: int = 4
    head_dim: int = 64
    gated: bool = False


class ActionHead(nn.Module):
    """Guesses the player's next action from a frame's features. `loss` trains it, `predict` uses it."""

    def __init__(
        self,
        *,
        spec: ActionSpec,
        dim: int,
        actions_per_step: int = 1,
        keys: KeyShape = KeyShape(),
    ) -> None:
        super().__init__()
        self.spec = spec
        if spec.kind == "keys":
            self.head = KeyDecoder(num_keys=spec.size, dim=dim, shape=keys)
        else:
            self.head = nn.Linear(dim, spec.size * (actions_per_step if spec.kind == "continuous" else 1))

    def check(self, actions: Tensor, learned: Tensor, whole: str = "clip {}") -> None:
        """Raises ValueError, naming the frame, where learned actions (B, n, A) hold more keys than the head can say.
        learned: bool (B, n). whole: what the frames are numbered within."""
        if isinstance(self.head, KeyDecoder):
            held = actions.sum(-1) * learned
            if bool((held > self.head.max_keys).any()):
                row, frame = (held > self.head.max_keys).nonzero()[0].tolist()
                raise ValueError(
                    f"{int(held[row, frame])} keys are held after frame {frame} of {whole.format(row)}, more than the "
                    f"world's max_keys, {self.head.max_keys}: raise max_keys, or set action_weight to 0"
                )

    def loss(self, features: Tensor, actions: Tensor) -> Tensor:
        """features (M, D), actions (M, ...) -> loss of each row (M,)."""
        if self.spec.kind == "continuous":
            target = self.spec.standardise(actions)
            return F.huber_loss(self.head(features).float(), target, reduction="none").mean(-1)
        if self.spec.kind == "discrete":
            return F.cross_entropy(self.head(features).float(), actions, reduction="none")
        assert isinstance(self.head, KeyDecoder)
        return self.head.loss(features, actions.bool())

    def predict(
        self, features: Tensor, *, generator: torch.Generator | None = None, temperature: float = 0.0
    ) -> Tensor:
        """features (B, D) -> actions (B,) or (B, A), the likeliest or drawn at `temperature`."""
        if self.spec.kind == "continuous":
            return self.spec.unstandardise(self.head(features).float())
        if self.spec.kind == "discrete":
            return _choose(self.head(features), generator, temperature)
        assert isinstance(self.head, KeyDecoder)
        return self.head.generate(features, generator, temperature)

    def odds(self, features: Tensor, *, draws: int = 64) -> Tensor:
        """features (B, D) -> the probability of each choice, or the share of so many draws that hold each key (B, A);
        for continuous actions their expected values (B, k * A). The same features give the same odds."""
        if self.spec.kind == "continuous":
            return self.predict(features)
        if self.spec.kind == "discrete":
            return self.head(features).float().softmax(-1)
        generator = torch.Generator(features.device).manual_seed(0)
        held = self.predict(features.repeat_interleave(draws, 0), generator=generator, temperature=1.0)
        return held.view(-1, draws, self.spec.size).float().mean(1)


def _choose(logits: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]


class KeyDecoder(nn.Module):
    """Keys held together, as a sequence of their sorted ids closed by an end token, decoded one by one.

    A small transformer of width D / 2 with learned positions. The first element is the frame's feature.
    """

    def __init__(self, *, num_keys: int, dim: int, shape: KeyShape = KeyShape()) -> None:
        super().__init__()
        width = max(dim // 2, 8)
        self.num_keys, self.max_keys = num_keys, min(shape.max_keys, num_keys)
        self.enter = nn.Linear(dim, width)
        self.embed = nn.Embedding(num_keys, width)
        self.position = nn.Parameter(torch.randn(self.max_keys + 1, width) * 0.02)
        layers = range(shape.depth)
        self.layers = nn.ModuleList(_DecoderLayer(width, shape.heads, shape.head_dim, shape.gated) for _ in layers)
        self.output = nn.Sequential(RMSNorm(width), nn.Linear(width, num_keys + 1))

    def logits(self, features: Tensor, ids: Tensor) -> Tensor:
        """features (M, D), key ids so far (M, n) -> logits (M, n + 1, A + 1); id A ends the sequence."""
        x = torch.cat([self.enter(features)[:, None], self.embed(ids)], 1) + self.position[: ids.shape[1] + 1]
        for layer in self.layers:
            x = layer(x)
        return self.output(x).float()

    def sequences(self, held: Tensor) -> Tensor:
        """Multi-hot (M, A) -> sorted ids (M, max_keys + 1), each closed by A, then padded with -1. Raises ValueError
        for a row that holds more than `max_keys`."""
        if held.shape[1] > self.max_keys and bool((many := held.sum(-1) > self.max_keys).any()):
            row = int(many.nonzero()[0])
            raise ValueError(f"row {row} holds {int(held[row].sum())} keys, more than max_keys, {self.max_keys}")
        ids = torch.arange(self.num_keys, device=held.device).expand_as(held).masked_fill(~held, self.num_keys)
        ids = ids.sort(-1).values[:, : self.max_keys]
        ids = torch.cat([ids, ids.new_full((len(ids), 1), self.num_keys)], 1)
        ended = (ids == self.num_keys).cumsum(-1) > 1
        return ids.masked_fill(ended, -1)

    def loss(self, features: Tensor, held: Tensor) -> Tensor:
        """Mean negative log likelihood of each row's ids and end token (M,)."""
        target = self.sequences(held)
        logits = self.logits(features, target[:, :-1].clamp(0, self.num_keys - 1))
        nll = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none")
        return nll.view_as(target).sum(-1) / (target >= 0).sum(-1)

    def generate(self, features: Tensor, generator: torch.Generator | None, temperature: float) -> Tensor:
        """Multi-hot (B, A) bool, decoded in ascending order until the end token."""
        batch = len(features)
        held = torch.zeros(batch, self.num_keys + 1, dtype=torch.bool, device=features.device)
        ids = torch.zeros(batch, 0, dtype=torch.int64, device=features.device)
        choices = torch.arange(self.num_keys + 1, device=features.device)
        for _ in range(self.max_keys):
            logits = self.logits(features, ids.clamp(max=self.num_keys - 1))[:, -1]
            if ids.shape[1]:
                ended = ids[:, -1:] == self.num_keys
                allowed = (choices > ids[:, -1:]) | (ended & (choices == self.num_keys))
                logits = logits.masked_fill(~allowed, -torch.inf)
            ids = torch.cat([ids, _choose(logits, generator, temperature)[:, None]], 1)
            held.scatter_(1, ids[:, -1:], True)
        return held[:, : self.num_keys]


class _DecoderLayer(nn.Module):
    """A pre-norm causal layer."""

    def __init__(self, width: int, heads: int, head_dim: int, gated: bool) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_dim
        self.attention_norm, self.feed_forward_norm = RMSNorm(width), RMSNorm(width)
        self.project = nn.Linear(width, 3 * inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        plain = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.feed_forward = SwiGLU(width) if gated else plain

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.project(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(read.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.feed_forward_norm(x))
