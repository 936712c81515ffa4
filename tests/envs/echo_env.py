"""Tiny environments whose picture shows the action done last: they prove that frames and actions line up.

The picture is four flat stripes, one for each number of the action, so that it survives a lossy video. After a reset
they are black.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces

STRIPES = 4
LENGTH = 12


class Echo(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, action_space, render_mode=None):
        self.action_space, self.render_mode = action_space, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.levels, self.steps = np.zeros(STRIPES), 0
        return self._state(), {}

    def step(self, action):
        self.levels, self.steps = self.show(action), self.steps + 1
        return self._state(), 1.0, self.steps == LENGTH, False, {}

    def show(self, action):
        """Brightness of each stripe, 0 to 1."""
        if isinstance(self.action_space, spaces.Discrete):
            return np.arange(STRIPES) == action - self.action_space.start
        if isinstance(self.action_space, spaces.MultiBinary):
            return np.asarray(action, float)
        return (np.asarray(action) - self.action_space.low) / (self.action_space.high - self.action_space.low)

    def render(self):
        stripes = np.rint(np.repeat(self.levels, 32) * 255).astype(np.uint8)
        return np.broadcast_to(stripes[None, :, None], (128, STRIPES * 32, 3)).copy()

    def _state(self):
        return np.array([self.steps, self.np_random.random()], np.float32)


class Mute(Echo):
    """Renders for people only."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012


class Liar(Echo):
    """Promises an array and renders none."""

    def render(self):
        return None


def _register(name, action_space, cls=Echo):
    gym.register(name, lambda render_mode=None: cls(action_space, render_mode))


_register("EchoDiscrete-v0", spaces.Discrete(STRIPES, start=3))
_register("EchoKeys-v0", spaces.MultiBinary(STRIPES))
_register("EchoBox-v0", spaces.Box(-2, 2, (2, 2), np.float32))
_register("EchoText-v0", spaces.Text(4))
_register("Liar-v0", spaces.Discrete(STRIPES), Liar)
gym.register("Mute-v0", f"{__name__}:Mute", kwargs={"action_space": spaces.Discrete(STRIPES)})
