"""A policy for recording mazes: walk to where there is room, as the depth shows it, instead of into walls."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oneiros.envs.explore import StickyRandom
from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import ActionSpec

KEYS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD")

_NEAR = 1.2  # metres to what is ahead, below which it turns away
_FREE = 2.5  # metres ahead, at which it has turned enough
_WANDERS = 0.04  # of all steps begin a while of random keys, so that every key is seen everywhere
_WANDERING = 12  # steps that lasts at most
_LOOKS = 0.03  # of all steps begin a look around on the spot
_STUCK = 0.05  # metres walked forward in a step, below which something stands in the way


class Walker:
    """Walks towards the farthest that its depth shows, turns where a wall is near, and now and then wanders or looks
    around. One instance for each episode.

    Wants keys (`KEYS` among them), depth in metres and, first in the state, the camera's x and y in metres, as
    ViZDoom's scenarios give them recorded with depth (see `check`).
    """

    @staticmethod
    def check(env: PixelEnv) -> None:
        """Raises ValueError for an environment that nobody can walk through, or that shows no depth."""
        if not set(KEYS) <= set(env.action_spec.names) or env.state_names[:2] != ("x", "y"):
            raise ValueError(f"a walker wants the keys {', '.join(KEYS)} and its place, as doom:my_way_home has them")
        if not any(camera.kind == "depth" for camera in env.cameras):
            raise ValueError("a walker looks at depth: record with --depth")

    def __init__(self) -> None:
        self._random = StickyRandom()
        self._wandering = 0
        self._turn: str | None = None
        self._turning = 0
        self._last: tuple[float, float] | None = None

    def __call__(
        self, observation: Mapping[str, np.ndarray], spec: ActionSpec, rng: np.random.Generator
    ) -> np.ndarray | np.int64:
        left, ahead, right = _room(observation)
        if not self._wandering and rng.random() < _WANDERS:
            self._wandering = int(rng.integers(4, _WANDERING + 1))
        if self._wandering:
            self._wandering -= 1
            return self._random(observation, spec, rng)
        stuck = self._is_stuck(observation)
        if self._turn is None and (ahead < _NEAR or stuck or rng.random() < _LOOKS):
            self._turn = "TURN_LEFT" if left + rng.normal() > right else "TURN_RIGHT"
            self._turning = int(rng.integers(2, 7))
        if self._turn is not None:
            self._turning -= 1
            held = {self._turn}
            if self._turning <= 0 and ahead > _FREE:
                self._turn = None
        else:
            held = {"MOVE_FORWARD"}
            if max(left, right) > 1.3 * ahead and rng.random() < 0.5:
                held.add("TURN_LEFT" if left > right else "TURN_RIGHT")
        self._last = _place(observation) if "MOVE_FORWARD" in held else None
        return np.array([name in held for name in spec.names])

    def _is_stuck(self, observation: Mapping[str, np.ndarray]) -> bool:
        if self._last is None:
            return False
        (x, y), (was_x, was_y) = _place(observation), self._last
        return float(np.hypot(x - was_x, y - was_y)) < _STUCK


def _room(observation: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Metres to what is on the left, ahead and on the right, at the height of the eyes."""
    depth = next(image for name, image in observation.items() if ".depth." in name)
    height = len(depth)
    eyes = np.median(depth[int(0.45 * height) : max(int(0.55 * height), 1)], axis=0)
    left, ahead, right = np.array_split(eyes, 3)
    return float(np.median(left)), float(ahead.min()), float(np.median(right))


def _place(observation: Mapping[str, np.ndarray]) -> tuple[float, float]:
    x, y = observation["observation.state"][:2]
    return float(x), float(y)
