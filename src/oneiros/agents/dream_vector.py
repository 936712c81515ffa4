"""Hundreds of dreams that go on together, as one Gymnasium vector environment.

Legend: B dreams, S starts, T frames of a start, N codes per frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.agents.states import begin, to_model
from oneiros.agents.vector import Observe, WorldVector
from oneiros.records import CodeClip
from oneiros.sampling import Sampling
from oneiros.world.model import World
from oneiros.world.state import WorldState


class DreamVector(WorldVector):
    """B dreams of one world in one batch, which pay and end as the world has learned.

    starts: recorded moments, codes (S, T, N) and the actions between them; `valid` may leave frames out in front, where
    the episode had just begun (see `recorded_starts`). Every dream begins at one of them, drawn at random, after the
    world has read its frames. sampling: how frames are drawn; ends are drawn at its temperature. seed: of a first
    `reset` that is given none. info["end_probability"] holds what the world expected.
    Raises ValueError for a world without rewards and ends, with guidance, and for starts without samples.
    """

    def __init__(
        self,
        world: World,
        starts: CodeClip,
        *,
        num_envs: int = 64,
        sampling: Sampling | None = None,
        observe: Observe = "features",
        max_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(world, num_envs, observe=observe, max_steps=max_steps)
        self.starts, self.sampling = starts, sampling or Sampling(temperature=1.0, min_p=0.0)
        if not len(starts.codes) or not bool(starts.valid[:, -1].all()):
            raise ValueError("dreams begin at recorded moments: at least one, and each ends in a real frame")
        if not (world.config.pays or world.config.ends):
            raise ValueError("this world has learned neither rewards nor ends: record them, and train it anew on those")
        if self.sampling.guidance_scale != 1:
            raise ValueError("dreams in a batch are drawn without guidance; guidance_scale must be 1")
        self._np_random = np.random.default_rng(seed)
        self._generator = torch.Generator(world.device)
        self._seeded()

    def branch(self, state: WorldState) -> None:
        """Let all B dreams go on from copies of a state of one sample: for planners."""
        self._state = state.of(torch.zeros(self.num_envs, dtype=torch.int64))
        self.lengths[:] = 0

    def imagine(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A step in which no dream ends: what it pays, float64 (B,), and how likely it ends, float32 (B,)."""
        self._state, reward, _, info = self._advance(self.state, actions, to_model(self.world, actions))
        return reward, info["end_probability"]

    def _seeded(self) -> None:
        self._generator.manual_seed(int(self.np_random.integers(2**62)))

    def _advance(
        self, state: WorldState, actions: np.ndarray, model_actions: Tensor | None
    ) -> tuple[WorldState, np.ndarray, np.ndarray, dict[str, Any]]:
        state, _ = self.world.step_codes(state, model_actions, generator=self._generator, sampling=self.sampling)
        outcome = self.world.outcome(state, generator=self._generator, temperature=self.sampling.temperature)
        info = {"end_probability": outcome.end_probability.cpu().numpy(), "_end_probability": self.lengths >= 0}
        return state, outcome.reward.double().cpu().numpy(), outcome.terminated.cpu().numpy(), info

    def _begin(self, rows: np.ndarray, time: int) -> WorldState:
        chosen = self.np_random.integers(len(self.starts.codes), size=len(rows))
        lengths = self.starts.valid[torch.from_numpy(chosen)].sum(1).numpy()
        begun: WorldState | None = None
        for length in np.unique(lengths):  # those that remember as many frames are read together
            places = np.flatnonzero(lengths == length)
            state = begin(self.world, newest(self.starts, chosen[places], int(length)), time=time)
            if len(places) == len(rows):
                return state
            begun = begun or state.of(torch.zeros(len(rows), dtype=torch.int64))
            begun = begun.replaced(torch.from_numpy(places), state)
        assert begun is not None
        return begun


def newest(starts: CodeClip, samples: np.ndarray, length: int) -> CodeClip:
    """The last `length` frames of these samples."""
    rows = torch.from_numpy(samples)
    codes, valid = starts.codes[rows, -length:], starts.valid[rows, -length:]
    actions = None if starts.actions is None else starts.actions[rows, starts.actions.shape[1] - length + 1 :]
    return CodeClip(codes, actions, valid)
