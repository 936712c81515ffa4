"""A toy to act in: a white dot that must be pushed to the right or to the left half's goal, seen in a picture.

`Push` is a Gymnasium environment (`gym:tests.policy.push_env:Push-v0`), whose start follows from its seed. `Pushes` has
the face of Meta-World's: several tasks, numbered starts, an expert, and steps without a picture.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import ActionSpec, Camera

SIZE, NEAR, REACH = 16, 0.12, 0.1
GOALS = {"push-left-v3": -0.8, "push-right-v3": 0.8}
CAMERA = "observation.images.front"


def draw(place: float, goal: float) -> np.ndarray:
    """uint8 (16, 16, 3): the goal is a red column, the dot a white one."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    for where, colour in ((goal, (255, 0, 0)), (place, (255, 255, 255))):
        column = min(int((where + 1) / 2 * SIZE), SIZE - 1)
        frame[:, column] = colour
    return frame


class Push(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = float(self.np_random.uniform(-0.5, 0.5)), float(self.np_random.choice([-0.8, 0.8]))
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place = float(np.clip(self.place + REACH * float(np.ravel(action)[0]), -1, 1))
        success = abs(self.place - self.goal) < NEAR
        return np.array([self.place], np.float32), float(success), False, False, {"success": success}

    def render(self):
        return draw(self.place, self.goal)


class Mute(Push):
    """Says nothing of success, only gives rewards."""

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, {}


gym.register("Push-v0", Push)
gym.register("MutePush-v0", Mute)


class Pushes(PixelEnv):
    """pictures: how many were drawn."""

    action_spec = ActionSpec("continuous", ("move",), low=(-1.0,), high=(1.0,))
    cameras = (Camera(CAMERA, SIZE, SIZE),)
    fps = 10
    state_names = ("place",)
    tasks = tuple(GOALS)
    has_expert = True

    def __init__(self):
        self.pictures, self.task, self.closed = 0, "", False

    def reset(self, *, seed=None, options=None):
        task, start = options["task"], options["start"]
        self.goal, self.task = GOALS[task], task.removesuffix("-v3").replace("-", " ")
        self.place = start / 50 - 0.5
        self._look()
        return self._seen(), {}

    def step(self, action, observe=True):
        self.place = float(np.clip(self.place + REACH * float(action[0]), -1, 1))
        if observe:
            self._look()
        success = abs(self.place - self.goal) < NEAR
        return self._seen(), float(success), success, False, {"success": success}

    def expert_action(self):
        return np.clip(np.array([(self.goal - self.place) / REACH], np.float32), -1, 1)

    def render(self):
        return self.picture

    def close(self):
        self.closed = True

    def _look(self):
        self.pictures += 1
        self.picture = draw(self.place, self.goal)

    def _seen(self):
        return {CAMERA: self.picture, "observation.state": np.array([self.place], np.float32)}
