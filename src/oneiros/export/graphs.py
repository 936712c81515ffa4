"""What a dream computes, as modules with fixed shapes that become ONNX graphs: a step of the dynamics, the finer levels
of its codes, the decoder and the encoder.

A step takes the ring of past keys and values as inputs and gives those of its own elements, which whoever runs it puts
into the ring. The last step of a frame predicts nothing: its elements wait, and are run together with those of the next
frame's first, as `oneiros.world.rollout` does, for a call with twice the elements costs less than two calls.

Legend: H heads, d channels of a head, m codes per step, r elements of a call (m or 2m), S steps and E elements per
frame, N codes per frame, L levels of the codebook, K entries of each, C width of a codebook vector, D width, M meta
tokens, W window in frames, R = W * E elements of the ring, A numbers of an action.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.world.model import World
from oneiros.world.nn.code_loss import MIN_SQUARED
from oneiros.world.nn.codebooks import ROUNDING
from oneiros.world.nn.detail import Detail
from oneiros.world.nn.dynamics import Dynamics, FinerLevel
from oneiros.world.nn.outcomes import OutcomeHead
from oneiros.world.nn.rope import frequencies


class StepGraph(nn.Module):
    """Elements of a step or two: which codes they hold, and what led into their frames -> what the next step's codes
    may be."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.dynamics, self.actions = world.dynamics, ActionVector(world)
        self.in_space: Tensor  # (2, E, pairs)
        elements = torch.arange(self.dynamics.layout.num_elements)
        rotary = self.dynamics.rotary(torch.zeros_like(elements), elements)
        self.register_buffer("in_space", rotary[..., len(time_frequencies(self.dynamics)) :])
        self.meta = _meta_keys_and_values(self.dynamics)

    def forward(
        self,
        digits: Tensor,
        elements: Tensor,
        action: Tensor,
        in_time: Tensor,
        near: Tensor,
        mask: Tensor,
        *ring: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """digits: int64 (L, r), the elements' codes; K in step 0, which holds none. elements: int64 (r,), their numbers
        within their frames. action (r, A + 2): see `ActionVector`. in_time (2, r, pairs): cosines and sines of their
        frames' places in time. near (r, r) and mask (r, R): 0 where one sees another of the call, or of the ring, -inf
        elsewhere. ring: for each layer keys (H, d, R), then for each layer values (H, R, d).

        Returns, of the last m elements, logits (m, K) of the first level of the next step's codes, the normalised
        outputs (m, D) that finer levels read, and the features (D,) that tell, in step 0, what the action leads to; of
        all, keys (layers, H, d, r) and values (layers, H, r, d).
        """
        dynamics = self.dynamics
        # Made in the graph, of the weights alone, so that they are as exact as these; a runtime makes them once.
        contents, positions = dynamics._contents(), dynamics._positions()
        x = self.actions(action) + positions[elements]
        for level, entries in zip(digits, contents, strict=True):
            x = x + F.embedding(level, F.pad(entries, (0, 0, 0, 1)))
        rotary = torch.cat([in_time, self.in_space[:, elements]], -1)
        memory = _RingInputs(ring, near, mask, self.meta)
        last = dynamics.run(x[None], memory, rotary)[0, -dynamics.layout.tokens_per_step :]
        outputs = dynamics.output_norm(last)
        logits = _logits(dynamics.leave(outputs), dynamics.levels[0], dynamics.log_scale)
        keys, values = torch.stack(memory.keys), torch.stack(memory.values)
        return logits, outputs, dynamics.step_features(last), keys.transpose(-1, -2), values


def time_frequencies(dynamics: Dynamics) -> list[float]:
    """How fast each channel pair turns that tells of time, radians a frame."""
    return frequencies(dynamics.head_dim, dynamics.periods)[0].tolist()


class ActionVector(nn.Module):
    """What led into a frame, as the numbers an exported world is given -> its condition (..., D).

    The numbers are the action's own, a one for each key that is held or for the choice that is made, in the env's units
    where actions are continuous, and two more: 1 at the start of an episode, 1 where the action is not known.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.embedding, self.spec = world.action_embedding, world.config.action_spec
        continuous = self.spec is not None and self.spec.kind == "continuous"
        self.size = self.spec.size * (world.actions_per_step if continuous else 1) if self.spec else 0

    def forward(self, action: Tensor) -> Tensor:
        """action: (..., A + 2)."""
        own, start, unknown = action.split([self.size, 1, 1], -1)
        condition = start * self.embedding.start + unknown * self.embedding.null
        if self.spec is None:
            return condition
        if self.spec.kind == "continuous":
            return condition + (1 - start - unknown) * self.embedding.vectors(own)
        return condition + own @ self.embedding.embed.weight  # type: ignore[union-attr]


class LevelGraph(nn.Module):
    """A finer level's logits, from the outputs of a step and the entries of the levels before."""

    def __init__(self, world: World, level: int) -> None:
        """level: 1 or more."""
        super().__init__()
        finer = world.dynamics.finer[level - 1]
        assert isinstance(finer, FinerLevel)
        self.finer, self.levels, self.level = finer, world.dynamics.levels, level

    def forward(self, outputs: Tensor, digits: Tensor) -> Tensor:
        """outputs (m, D) and digits int64 (level, m) -> logits (m, K)."""
        vectors = torch.zeros(())
        for drawn, entries in zip(digits, self.levels, strict=False):
            vectors = vectors + F.embedding(drawn, entries)
        return _logits(self.finer(outputs, vectors), self.levels[self.level], self.finer.log_scale)


class OutcomeGraph(nn.Module):
    """What a step pays and whether it ends the episode, from the features of its action."""

    def __init__(self, head: OutcomeHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (D,) -> the reward to be expected if the step does not end the episode and if it does (2,), and the
        log odds of an end (1,), -inf where there are none."""
        hidden = self.head.read(features[None].float())
        rewards = [self.head._rewards(hidden, hidden.new_full((1,), flag)) for flag in (0.0, 1.0)]
        return torch.cat(rewards), self.head._end_logits(hidden)


class DecodeGraph(nn.Module):
    """Codes of a frame, and of those before it that the decoder looks back to -> the frame."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.tokenizer, self.scale = world.tokenizer, world.config.carry_detail
        self.entries: Tensor  # (L, K + 1, C), the last of each level 0
        levels = self.tokenizer.levels
        self.register_buffer("entries", torch.cat([levels, levels.new_zeros(len(levels), 1, levels.shape[-1])], 1))

    def forward(self, digits: Tensor, *real: Tensor) -> Tensor:
        """digits: int64 (L, frames, N) in raster order, the newest frame's last; K where there was none yet.

        real: what is known of the last real frame, each (channels, height, width): the frame itself for tokenizers
        that are shown one; for worlds that carry detail, how its codes decode, and what that lacks.
        Returns the newest frame (channels, height, width) in [-1, 1].
        """
        vectors = sum(
            (F.embedding(level, entries) for level, entries in zip(digits[1:], self.entries[1:], strict=True)),
            start=F.embedding(digits[0], self.entries[0]),
        )
        tokenizer = self.tokenizer
        latents = tokenizer.after(vectors.movedim(-1, 1).unflatten(-1, tokenizer.grid)[None])[:, -1:]
        frames = [frame[None, None] for frame in real]
        reference = frames.pop(0) if tokenizer.config.reference_frame else None
        frame = tokenizer._frames(latents, reference).clamp(-1, 1)
        if frames:
            frame = Detail(*frames).added_to(frame, self.scale)
        return frame[0, 0]


class EncodeGraph(nn.Module):
    """A frame, and the latents of those before it that the encoder looks back to -> its codes."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.tokenizer = world.tokenizer

    def forward(self, frame: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """frame (channels, height, width) in [-1, 1]; past: of tokenizers with convolutions over time, the latents
        (frames, C, h, w) before it, 0 where there were none -> digits int64 (L, N), latents (1, C, h, w)."""
        latents = self.tokenizer._latents(frame[None, None])
        seen = latents if past is None else torch.cat([past[None], latents], 1)
        rest, digits = self.tokenizer.before(seen)[0, -1].flatten(1).T, []
        for entries in self.tokenizer.levels:
            distances = _squared_distances(rest, entries).clamp_min(0).sqrt()
            least = distances.amin(-1, keepdim=True)
            digits.append((distances <= least + ROUNDING * (least + 1e-2)).int().argmax(-1))
            rest = rest - F.embedding(digits[-1], entries)
        return torch.stack(digits), latents[0]


class _RingInputs:
    """The memory of a graph: queries see what the masks show of the ring and of one another, and all meta tokens. Keeps
    new keys (H, r, d) and values of each layer."""

    def __init__(self, ring: tuple[Tensor, ...], near: Tensor, mask: Tensor, meta: list[tuple[Tensor, Tensor]]) -> None:
        self._keys, self._values = ring[: len(meta)], ring[len(meta) :]
        self._near, self._mask, self._meta = F.pad(near, (meta[0][0].shape[1], 0)), mask, meta
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.keys.append(key[0])
        self.values.append(value[0])
        meta_key, meta_value = self._meta[layer]
        near_keys, near_values = torch.cat([meta_key, key[0]], 1), torch.cat([meta_value, value[0]], 1)
        query = query[0] * query.shape[-1] ** -0.5
        far = query @ self._keys[layer] + self._mask
        near = query @ near_keys.transpose(-1, -2) + self._near
        scores, size = torch.cat([far, near], -1).softmax(-1), self._mask.shape[-1]
        read = scores[..., :size] @ self._values[layer] + scores[..., size:] @ near_values
        return read[None]


def _meta_keys_and_values(dynamics: Dynamics) -> list[tuple[Tensor, Tensor]]:
    """Of the meta tokens, which see one another alone: for each layer (H, M, d) twice."""
    nothing = [torch.zeros(dynamics.heads, 0, dynamics.head_dim)] * len(dynamics.blocks)
    ring = (*(keys.transpose(-1, -2) for keys in nothing), *nothing)
    tokens = len(dynamics.meta)
    near, mask = torch.zeros(tokens, tokens), torch.zeros(tokens, 0)
    memory = _RingInputs(ring, near, mask, [(nothing[0], nothing[0])] * len(nothing))
    pairs = sum(map(len, frequencies(dynamics.head_dim, dynamics.periods)))
    dynamics.run(dynamics.meta[None], memory, torch.zeros(2, tokens, pairs))
    return list(zip(memory.keys, memory.values, strict=True))


def _logits(query: Tensor, entries: Tensor, log_scale: Tensor) -> Tensor:
    """As `distance_logits`, but for what all logits of a row share: the likeliest is 0.

    Of differences of squares, d - e = (d^2 - e^2) / (d + e), as logits of some hundreds are so coarse in float32 that
    two runtimes would often break ties between them differently, and dreams that differ once differ for good.
    """
    nearness = query @ entries.T - entries.square().sum(-1) / 2
    nearest = nearness.amax(-1, keepdim=True)
    least = (query.square().sum(-1, keepdim=True) - 2 * nearest).clamp_min(MIN_SQUARED)
    further = 2 * (nearest - nearness)  # squared distance, above the least
    return -log_scale.exp() * further / (least.sqrt() + (least + further).sqrt())


def _squared_distances(query: Tensor, entries: Tensor) -> Tensor:
    """query (..., C), entries (K, C) -> (..., K)."""
    return entries.square().sum(-1) + query.square().sum(-1, keepdim=True) - 2 * (query @ entries.T)
