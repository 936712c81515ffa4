"""Many worlds that go on together: what dreams and real games have in common as a Gymnasium vector environment.

Legend: B environments, P x P cells that features are pooled to, D width of the world.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from oneiros.agents.states import check_steps_one_by_one, pooled, pooled_grid, to_model
from oneiros.data.frames import to_uint8
from oneiros.world.dream import action_space_of
from oneiros.world.model import World
from oneiros.world.state import WorldState

Observe = Literal["features", "frames"]


class WorldVector(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """B environments, each with a world's state beside it, which begin anew one by one.

    Observations are `features`, float32 (B, P * P * D): the world's hidden state, pooled; or `frames`, uint8
    (B, H, W, 3). Autoreset is SAME_STEP: where an episode ends, the observation is the next one's first, and
    info["final_obs"] holds its last. `reset` takes options={"reset_mask": bool (B,)}. Episodes are truncated after
    `max_steps` steps, where given.
    """

    autoreset_mode = AutoresetMode.SAME_STEP  # as Gymnasium's own vector environments say it, beside the metadata
    metadata = {"autoreset_mode": autoreset_mode, "render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's)
    render_mode = "rgb_array"

    def __init__(
        self, world: World, num_envs: int, *, observe: Observe = "features", max_steps: int | None = None
    ) -> None:
        check_steps_one_by_one(world)
        if num_envs < 1:
            raise ValueError(f"{num_envs} environments; there must be at least 1")
        if observe not in ("features", "frames"):
            raise ValueError(f"observe is {observe!r}; choose features or frames")
        self.world, self.num_envs, self.observe, self.max_steps = world, num_envs, observe, max_steps
        self.single_observation_space = self._space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = action_space_of(world.config.action_spec)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.lengths = np.zeros(num_envs, np.int64)
        self._state: WorldState | None = None

    @property
    def state(self) -> WorldState:
        """The states of all B. Whoever steps it must take a copy."""
        if self._state is None:
            raise ValueError("the environments have not begun; call reset() first")
        return self._state

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self._np_random, self._np_random_seed = np.random.default_rng(seed), seed  # type: ignore[assignment]
            self._seeded()
        mask = self._mask(options)
        if self._state is None and not mask.all():
            raise ValueError("the first reset begins all environments; reset_mask leaves some out")
        self._begin_rows(np.flatnonzero(mask))
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        actions = np.asarray(actions)
        self._state, reward, terminated, info = self._advance(self.state, actions, to_model(self.world, actions))
        self.lengths += 1
        cut = np.zeros_like(terminated) if self.max_steps is None else self.lengths >= self.max_steps
        truncated = (info.pop("truncated", False) | cut) & ~terminated
        observation, over = self._observe(), terminated | truncated
        if over.any():
            final = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(over):
                final[row] = observation[row]
            info |= {"final_obs": final, "_final_obs": over, "final_length": self.lengths * over}
            self._begin_rows(np.flatnonzero(over))
            observation = self._observe()
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...]:
        """The newest frames, uint8 (H, W, 3) each."""
        return tuple(self.frames())

    def frames(self) -> np.ndarray:
        """The newest frames, uint8 (B, H, W, 3), as the world's codes draw them."""
        frames = self.world.tokenizer.decode(self.state.codes[:, -1:], self.state.codes[:, :-1], self.state.reference)
        return to_uint8(frames[:, 0]).cpu().numpy()

    @abstractmethod
    def _advance(
        self, state: WorldState, actions: np.ndarray, model_actions: Tensor | None
    ) -> tuple[WorldState, np.ndarray, np.ndarray, dict[str, Any]]:
        """The states after a step, rewards float64 (B,), which episodes ended bool (B,), and info, in which
        "truncated" says which were cut off."""

    @abstractmethod
    def _begin(self, rows: np.ndarray, time: int) -> WorldState:
        """States of new episodes for these environments, at `time`."""

    def _seeded(self) -> None:
        """What else follows from a new seed."""

    def _begin_rows(self, rows: np.ndarray) -> None:
        everyone = len(rows) == self.num_envs
        time = self.world.config.window if everyone or self._state is None else self._state.time
        begun = self._begin(rows, time)
        if everyone:
            self._state = begun
        else:
            if self.state.pending is None:
                begun = begun.flushed()
            self._state = self.state.replaced(torch.from_numpy(rows), begun)
        self.lengths[rows] = 0

    def _observe(self) -> np.ndarray:
        if self.observe == "frames":
            return self.frames()
        self._state, features = pooled(self.world, self.state)
        return features

    def _space(self) -> spaces.Box:
        if self.observe == "frames":
            height, width = self.world.tokenizer.config.size
            return spaces.Box(0, 255, (height, width, 3), np.uint8)
        rows, columns = pooled_grid(self.world)
        return spaces.Box(-np.inf, np.inf, (rows * columns * self.world.config.dim,), np.float32)

    def _mask(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, bool)
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(f"reset_mask must be a bool array ({self.num_envs},) with at least one True")
        return mask
