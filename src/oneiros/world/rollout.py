"""Dreaming a batch of clips frame by frame, as a player would, and keeping what is measured.

Legend: B clips, T context frames, F dreamed frames, s frames a step (1 for image codecs), C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.console import Advance
from oneiros.data.frames import to_uint8
from oneiros.records import Clip, Outcomes
from oneiros.sampling import Sampling
from oneiros.world.config import WorldConfig
from oneiros.world.nn.outcomes import StepOutcome
from oneiros.world.state import WorldState
from oneiros.world.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0.0, estimate="mean")  # what the world expects
LIKELIEST = Sampling(temperature=0.0)


class Dreamer(Protocol):
    """What a rollout asks of a world: `oneiros.World` has it all."""

    @property
    def config(self) -> WorldConfig: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def device(self) -> torch.device: ...

    def init(self, clip: Clip) -> WorldState: ...

    def step(
        self, state: WorldState, action: Tensor | None, *, generator: torch.Generator | None, sampling: Sampling
    ) -> tuple[WorldState, Tensor]: ...

    def outcome(
        self, state: WorldState, *, generator: torch.Generator | None = None, temperature: float = 1.0
    ) -> StepOutcome: ...

    def predict_action(
        self, state: WorldState, *, generator: torch.Generator | None = None, temperature: float = 0.0
    ) -> tuple[WorldState, Tensor]: ...


@dataclass(frozen=True)
class DreamStep:
    """One step of a dream.

    frames: the new ones, (B, s, C, H, W) in [-1, 1]. action: the one that led into them, (B,) or (B, A), None =
    unknown. guess: the action that the head expected instead, likewise, or None when not asked. outcome: what came of
    the action, None where the world knows neither rewards nor ends.
    """

    frames: Tensor
    action: Tensor | None
    guess: Tensor | None
    outcome: StepOutcome | None = None


def context_of(clip: Clip, length: int) -> Clip:
    """The first `length` frames of a clip, and the actions between them with their outcomes."""
    actions = None if clip.actions is None else clip.actions[:, : length - 1]
    outcomes = None if clip.outcomes is None else clip.outcomes.part(0, length - 1)
    return Clip(clip.frames[:, :length], actions, clip.valid[:, :length], outcomes=outcomes)


@torch.no_grad()
def begin(world: Dreamer, context: Clip) -> WorldState:
    """The state after `context`, its actions dropped where the world knows none. `clone` it to dream on twice."""
    actions = context.actions if world.config.action_spec is not None else None
    return world.init(Clip(context.frames, actions, context.valid).to(world.device))


@torch.no_grad()
def steps(
    world: Dreamer,
    state: WorldState,
    actions: Tensor | Literal["head"] | None,
    *,
    num_frames: int,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
    guess: bool = False,
) -> Iterator[DreamStep]:
    """Dream on from `state`, which is consumed, step by step.

    actions: (B, at least num_frames, ...), dropped where the world knows no actions; None = unknown; "head" = drawn
    from the action head. guess: also ask the head before each step what the player does next. A video codec of temporal
    stride s dreams s frames a step. Raises ValueError where s does not divide num_frames.
    """
    spec, stride = world.config.action_spec, world.tokenizer.temporal_stride
    if num_frames % stride:
        raise ValueError(f"{num_frames} frames cannot be dreamed by a codec that makes {stride} frames at a time")
    script = None
    if spec is not None and isinstance(actions, Tensor):
        script = spec.join(actions[:, :num_frames].to(world.device), stride)
    action = guessed = None
    for index in range(num_frames // stride):
        if isinstance(actions, str):
            state, action = world.predict_action(state, generator=generator, temperature=sampling.temperature)
        elif script is not None:
            action = script[:, index]
        if guess:
            state, guessed = world.predict_action(state)
        state, frames = world.step(state, action, generator=generator, sampling=sampling)
        outcome = None
        if world.config.pays or world.config.ends:
            outcome = world.outcome(state, generator=generator, temperature=sampling.temperature)
        yield DreamStep(frames if stride > 1 else frames[:, None], action, guessed, outcome)


def roll(
    world: Dreamer,
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

    advance: called after each step with the number of new frames, of all clips together.
    """
    generator = torch.Generator(world.device).manual_seed(seed)
    options = {"num_frames": num_frames, "sampling": sampling, "generator": generator, "guess": guess}
    frames, guesses = [], []
    for step in steps(world, state, actions, **options):
        frames.append(to_uint8(step.frames).cpu())
        if step.guess is not None:
            guesses.append(step.guess.cpu())
        advance(step.frames.shape[0] * step.frames.shape[1])
    return torch.cat(frames, 1), torch.stack(guesses, 1) if guesses else None


def generate(
    world: Dreamer,
    clip: Clip | Tensor,
    actions: Tensor | Literal["head"] | None,
    *,
    num_frames: int | None,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> Clip:
    """The context followed by what `steps` dreams, with the actions used: see `World.generate`."""
    clip = _as_clip(clip) if isinstance(clip, Tensor) else clip
    count = _num_frames(actions, num_frames)
    dream = list(steps(world, world.init(clip), actions, num_frames=count, sampling=sampling, generator=generator))
    frames = torch.cat([clip.frames, *(step.frames for step in dream)], 1)
    new = actions[:, :count] if isinstance(actions, Tensor) else None
    spec = world.config.action_spec
    if isinstance(actions, str) and dream and spec is not None:
        drawn = torch.stack([step.action for step in dream if step.action is not None], 1)
        new = spec.spread(drawn, world.tokenizer.temporal_stride)
    outcomes = _outcomes(world, clip, dream)
    return Clip(frames, _joined(clip, new), clip.valid.new_ones(frames.shape[:2]), clip.task, outcomes=outcomes)


def _outcomes(world: Dreamer, context: Clip, dream: list[DreamStep]) -> Outcomes | None:
    """What came of each step of the dream, and of the context as far as that is known; None for a world without."""
    drawn = [step.outcome for step in dream if step.outcome is not None]
    stride, known = world.tokenizer.temporal_stride, context.valid.shape[1] - 1
    if not drawn:
        return None

    def rows(values: list[Tensor], before: Tensor | None) -> Tensor:
        """(B, rows): what a step of several frames brought lies in the row of its last frame."""
        new = torch.stack(values, 1)
        new = F.pad(new[..., None], (stride - 1, 0)).flatten(1)
        return torch.cat([new.new_zeros(len(new), known) if before is None else before, new], 1)

    given = context.outcomes
    terminated = rows([each.terminated for each in drawn], None if given is None else given.terminated)
    valid = torch.ones_like(terminated)
    valid[:, :known] = False if given is None else given.valid
    return Outcomes(
        rows([each.reward for each in drawn], None if given is None else given.reward) if world.config.pays else None,
        terminated if world.config.ends else None,
        None,
        valid,
    )


def _num_frames(actions: Tensor | str | None, num_frames: int | None) -> int:
    """How many frames to dream, as many as there are actions where no number is given."""
    if isinstance(actions, str) and actions != "head":
        raise ValueError(f"actions are {actions!r}; give a tensor, None or 'head'")
    if not isinstance(actions, Tensor):
        if num_frames is None:
            raise ValueError("generate needs num_frames when no actions are given")
        return num_frames
    if num_frames is not None and actions.shape[1] < num_frames:
        raise ValueError(f"generate was given {actions.shape[1]} actions for {num_frames} frames")
    return actions.shape[1] if num_frames is None else num_frames


def _joined(context: Clip, new: Tensor | None) -> Tensor | None:
    """Actions of the context and of the dream; None unless all are known, for a partial record would misalign."""
    if new is None or context.frames.shape[1] == 1:
        return new
    return None if context.actions is None else torch.cat([context.actions, new], 1)


def _as_clip(image: Tensor) -> Clip:
    image = image[None] if image.ndim == 3 else image
    return Clip(image[:, None], None, torch.ones(len(image), 1, dtype=torch.bool, device=image.device))
