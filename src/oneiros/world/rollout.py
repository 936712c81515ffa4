"""Dreaming a batch of clips frame by frame, as a player would, and keeping what is measured.

Legend: B clips, T context frames, F dreamed frames, s frames a step (1 for image codecs), C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oneiros.console import Advance
from oneiros.data.frames import to_uint8
from oneiros.records import Clip, Sampling

if TYPE_CHECKING:
    from oneiros.world.model import World, WorldState

GREEDY = Sampling(temperature=0.0, estimate="mean")  # what the world expects
LIKELIEST = Sampling(temperature=0.0)


def context_of(clip: Clip, length: int) -> Clip:
    """The first `length` frames of a clip and the actions between them."""
    actions = None if clip.actions is None else clip.actions[:, : length - 1]
    return Clip(clip.frames[:, :length], actions, clip.valid[:, :length])


@dataclass(frozen=True)
class Step:
    """frames: the new ones, (B, s, C, H, W) in [-1, 1]. guess: the action that the head expected to lead into them,
    before it was told the one that did: (B,) or (B, A), or None when not asked."""

    frames: Tensor
    guess: Tensor | None


@torch.no_grad()
def begin(world: World, context: Clip) -> WorldState:
    """The state after `context`, its actions dropped where the world knows none. `clone` it to dream on twice."""
    known = context.actions if world.config.action_spec is not None else None
    return world.init(Clip(context.frames, known, context.valid).to(world.device))


@torch.no_grad()
def steps(
    world: World,
    state: WorldState,
    actions: Tensor | None,
    *,
    num_frames: int,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    guess: bool = False,
) -> Iterator[Step]:
    """Dream on from `state`, which is consumed, step by step.

    actions: (B, at least num_frames, ...) or None = unknown; dropped where the world knows no actions. A video codec of
    temporal stride s dreams s frames a step. Raises ValueError where s does not divide num_frames.
    """
    spec, stride, device = world.config.action_spec, world.tokenizer.temporal_stride, world.device
    if num_frames % stride:
        raise ValueError(f"{num_frames} frames cannot be dreamed by a codec that makes {stride} at a time")
    script = None
    if spec is not None and actions is not None:
        script = spec.join(actions[:, :num_frames].to(device), stride)
    generator = torch.Generator(device).manual_seed(seed)
    guessed = None
    for index in range(num_frames // stride):
        if guess:
            state, guessed = world.predict_action(state)
        action = None if script is None else script[:, index]
        state, frames = world.step(state, action, generator=generator, sampling=sampling)
        yield Step(frames if stride > 1 else frames[:, None], guessed)


def roll(
    world: World,
    state: WorldState,
    actions: Tensor | None,
    *,
    num_frames: int,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    guess: bool = False,
    advance: Advance = lambda amount: None,
) -> tuple[Tensor, Tensor | None]:
    """What `steps` dreams, in one piece: frames uint8 (B, F, H, W, 3), guesses (B, F / s, ...) or None.

    advance: told after each step how many frames are new.
    """
    frames, guesses = [], []
    for step in steps(world, state, actions, num_frames=num_frames, sampling=sampling, seed=seed, guess=guess):
        frames.append(to_uint8(step.frames).cpu())
        if step.guess is not None:
            guesses.append(step.guess.cpu())
        advance(step.frames.shape[0] * step.frames.shape[1])
    return torch.cat(frames, 1), torch.stack(guesses, 1) if guesses else None
