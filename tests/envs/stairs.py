"""An environment that pays and ends by rules that a frame and an action tell: a place from 0 to 7, shown as brightness.

A step pays ten times the place that it begins at, and one more for action 1, which leads a place up; 0 leads one down.
Stepping up from the top ends the episode, stepping down from the bottom cuts it off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from oneiros.envs.pixel_env import PixelEnv, observation_space
from oneiros.records import ActionSpec, Camera, Clip

TOP, SIDE = 7, 16
CAMERA = Camera("observation.images.front", SIDE, SIDE)


class Stairs(PixelEnv):
    """shows_the_end: whether the step that ends an episode returns a new picture, as ViZDoom's does not. endless: for
    how long nothing ends."""

    fps = 10
    cameras = (CAMERA,)
    action_spec = ActionSpec("discrete", ("down", "up"))

    def __init__(self, *, shows_the_end: bool = True) -> None:
        self.shows_the_end = shows_the_end
        self.action_space = spaces.Discrete(2)
        self.observation_space = observation_space(self.cameras, ())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(TOP + 1))
        self.seen = self._observe()
        return self.seen, {}

    def step(self, action: Any, observe: bool = True):
        before, up = self.place, int(action)
        over, cut = before == TOP and up == 1, before == 0 and up == 0
        self.place = min(max(before + (1 if up else -1), 0), TOP)
        if self.shows_the_end or not (over or cut):
            self.seen = self._observe()
        return self.seen, 10.0 * before + up, over, cut, {}

    def render(self) -> np.ndarray:
        return self.seen[CAMERA.name]

    def _observe(self) -> dict[str, np.ndarray]:
        return {CAMERA.name: np.full((SIDE, SIDE, 3), 32 * self.place, np.uint8)}


def places(clip: Clip) -> np.ndarray:
    """Where each frame of a clip shows to be (B, T)."""
    return ((clip.frames.mean((2, 3, 4)) + 1) * 127.5 / 32).round().int().numpy()


def mistaken(clip: Clip, shift: int = 0) -> int:
    """How many of the valid steps have another reward or end than their frame and action tell. shift: of the labels."""
    assert clip.outcomes is not None
    before, up = places(clip)[:, :-1], clip.actions.numpy()
    reward, terminated, truncated = (
        np.roll(each.numpy(), shift, 1)
        for each in (clip.outcomes.reward, clip.outcomes.terminated, clip.outcomes.truncated)
    )
    right = (
        (reward == 10 * before + up)
        & (terminated == ((before == TOP) & (up == 1)))
        & (truncated == ((before == 0) & (up == 0)))
    )
    return int((~right & clip.outcomes.valid.numpy()).sum())
