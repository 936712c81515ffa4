"""Record an environment of your own with a policy of your own.

    python examples/05_own_env_and_policy.py [FOLDER]

Any Gymnasium environment with render_mode="rgb_array" and Discrete, MultiBinary or Box actions will do.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np

from oneiros import Dataset, DatasetWriter, make_env
from oneiros.envs.record import record_episode

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples")


class Ball(gym.Env):
    """A white square on a dark ground: action 0 moves it left, 1 right."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    action_space, observation_space = gym.spaces.Discrete(2), gym.spaces.Box(0, 56, (1,), np.int64)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(57, size=1)
        return self.left, {}

    def step(self, action):
        self.left = np.clip(self.left + (3 if action else -3), 0, 56)
        return self.left, 0.0, False, False, {}

    def render(self):
        image = np.full((64, 64, 3), 30, np.uint8)
        image[28:36, self.left[0] : self.left[0] + 8] = 255
        return image


def to_the_middle(observation, spec, rng):
    """A policy: observation and ActionSpec in, action out. One step in four is random, so that the data has variety."""
    return rng.integers(spec.size) if rng.random() < 0.25 else int(observation["observation.state"][0] < 28)


gym.register("Ball-v0", lambda render_mode: Ball())
env = make_env("gym:Ball-v0")
with DatasetWriter.of(env, folder / "ball") as writer:
    for _ in range(4):
        record_episode(env, writer, lambda: to_the_middle, seed=0, max_steps=40, task="stay in the middle")

places = Dataset.open(folder / "ball").states(0)[:, 0]
print(f"episode 0 of 4: the square goes from column {places[0]:.0f} to column {places[-1]:.0f} in {len(places)} frames")
