"""What a policy remembers between steps of its environments: newest frames, actions done, and the plan under way.

Legend: B environments, O frames observed, k frame stride, L actions of a chunk, A names of actions, F frames imagined,
N codes per frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.policy.nn.action_numbers import no_action
from oneiros.records import ActionSpec, Observation


def observed_rows(row: int, count: int, stride: int) -> np.ndarray:
    """The `count` rows that are seen at `row`, each `stride` after the one before; the first row stands in for those
    before the episode."""
    return np.maximum(row - stride * np.arange(count - 1, -1, -1), 0)


@dataclass(frozen=True)
class Chunking:
    """observed_frames: O. frame_stride: k, steps between them. execute: actions of a chunk that are done before the
    next is planned."""

    observed_frames: int
    frame_stride: int
    execute: int

    def rows(self, row: int) -> list[int]:
        """The O steps that are looked at in step `row`, oldest first; before the first step there is the first."""
        return observed_rows(row, self.observed_frames, self.frame_stride).tolist()

    def plans(self, step: int) -> bool:
        return step % self.execute == 0

    def looks(self, step: int) -> bool:
        """Whether the frame of this step is looked at, now or in a later plan."""
        return any(self.plans(step + back * self.frame_stride) for back in range(self.observed_frames))

    @property
    def span(self) -> int:
        """Actions between the oldest frame looked at and the newest."""
        return (self.observed_frames - 1) * self.frame_stride


@dataclass(frozen=True)
class Carry:
    """All B environments are in the same step. Carries are values: `act` returns the next one.

    seeds: of each environment's random numbers. step: steps done. frames: by step, each (B, C, H, W). actions: (B,
    span, ...), the newest done, before the first `no_action`. chunk: (B, L, ...), the plan, or None. codes: int64 (B,
    F, N), of the frames imagined for the plan; past: int64 (B, O, N), of the observed before them; or None.
    """

    chunking: Chunking
    seeds: tuple[int, ...]
    step: int
    frames: dict[int, Tensor]
    actions: Tensor
    chunk: Tensor | None = None
    past: Tensor | None = None
    codes: Tensor | None = None

    @classmethod
    def start(
        cls, batch_size: int, seeds: Sequence[int] | None, chunking: Chunking, spec: ActionSpec, device: torch.device
    ) -> Carry:
        """Raises ValueError where there is not one seed for each environment."""
        seeds = range(batch_size) if seeds is None else seeds
        if batch_size < 1 or len(seeds) != batch_size:
            raise ValueError(f"there are {len(seeds)} seeds for {batch_size} environments; one for each is needed")
        none = no_action(spec, batch_size, chunking.span, device=device)
        return cls(chunking, tuple(int(seed) for seed in seeds), 0, {}, none)

    @property
    def batch_size(self) -> int:
        return len(self.seeds)

    @property
    def plans_next(self) -> bool:
        """Whether the next `act` looks at its observation's frames, to plan from now or from later on.

        Where `execute` is a multiple of the frame stride, or there is one frame, this is exactly when it plans.
        """
        return self.chunking.looks(self.step)

    @property
    def noise_seeds(self) -> tuple[int, ...]:
        """Keys of the next plan's random numbers, of each environment: they follow from its seed and the step alone."""
        return tuple(zlib.crc32(struct.pack("<qq", seed, self.step)) for seed in self.seeds)

    def with_observation(self, observation: Observation) -> Carry:
        """With the observation's frames, if they are ever looked at, and without those that are no longer."""
        if len(observation.frames) != self.batch_size:
            raise ValueError(f"the observation is of {len(observation.frames)} environments, not {self.batch_size}")
        if not self.plans_next:
            return self
        kept = {step: frames for step, frames in self.frames.items() if step >= self.step - self.chunking.span}
        return replace(self, frames={**kept, self.step: observation.frames})

    def observed(self) -> Tensor:
        """Frames (B, O, C, H, W) looked at now, after `with_observation` the newest."""
        return torch.stack([self.frames[row] for row in self.chunking.rows(self.step)], 1)

    def next_action(self) -> tuple[Carry, Tensor]:
        """The plan's action for this step (B, ...), and the carry for the next."""
        assert self.chunk is not None
        action = self.chunk[:, self.step % self.chunking.execute]
        actions = torch.cat([self.actions, action[:, None]], 1)[:, 1:] if self.chunking.span else self.actions
        return replace(self, step=self.step + 1, actions=actions), action

    def take(self, indices: Sequence[int] | Tensor) -> Carry:
        """Some of the environments alone, in the order of `indices`."""
        rows = torch.as_tensor(indices, dtype=torch.int64).tolist()

        def taken(value: Any) -> Any:
            return value[rows] if isinstance(value, Tensor) else value

        return replace(
            self,
            seeds=tuple(self.seeds[row] for row in rows),
            frames={step: taken(frames) for step, frames in self.frames.items()},
            **{name: taken(getattr(self, name)) for name in ("actions", "chunk", "past", "codes")},
        )
