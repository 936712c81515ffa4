"""A toy environment whose start decides whether the episode succeeds, with an expert who knows what is wanted."""

import numpy as np

from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import ActionSpec, Camera

LENGTH = 4


class LuckyEnv(PixelEnv):
    """Shows one grey and wants its brightness as the action. About every other start is lost from the beginning."""

    action_spec = ActionSpec("continuous", ("brightness",), low=(0.0,), high=(1.0,))
    cameras = (Camera("observation.images.front", 32, 32),)
    state_names = ("start", "step")
    fps = 10
    has_expert = True

    def __init__(self, *, tasks=(), chance=0.5, speaks=True):
        self.tasks, self.chance, self.speaks, self.asked = tasks, chance, speaks, []
        self.starts = []  # (what was wanted, whether lucky) of every episode

    def reset(self, *, seed=None, options=None):
        self.asked.append(options)
        self.task = (options or {}).get("task", "be lucky")
        rng = np.random.default_rng(seed)
        self.lucky, self.wanted, self.step_number = rng.random() < self.chance, rng.random(), 0
        self.starts.append((self.wanted, self.lucky))
        return self._observation(), {}

    def step(self, action, observe=True):
        self.step_number += 1
        over = self.step_number == LENGTH
        info = {"success": bool(self.lucky and self.step_number == LENGTH - 1)} if self.speaks else {}
        return self._observation(), 0.0, over, False, info

    def expert_action(self):
        return np.array([self.wanted], np.float32)

    def _observation(self):
        image = np.full((32, 32, 3), 255 * self.wanted, np.uint8)
        state = np.array([self.wanted, self.step_number], np.float32)
        return {self.cameras[0].name: image, "observation.state": state}
