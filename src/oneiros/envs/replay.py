"""A real environment that can be put back to where it was: it begins again and does the same once more."""

from __future__ import annotations

from typing import Any

import numpy as np

from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import ActionSpec, Camera

Past = tuple[int | None, dict[str, Any] | None, tuple[Any, ...]]  # seed, options, and what was done since


class Replayed:
    """`snapshot` and `restore` for an environment in which the same seed and actions lead to the same place."""

    def __init__(self, env: PixelEnv) -> None:
        self._env = env
        self._seed: int | None = None
        self._options: dict[str, Any] | None = None
        self._done: list[Any] = []
        self._observation: dict[str, np.ndarray] = {}

    @property
    def action_spec(self) -> ActionSpec:
        return self._env.action_spec

    @property
    def cameras(self) -> tuple[Camera, ...]:
        return self._env.cameras

    @property
    def fps(self) -> float:
        return self._env.fps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self._observation, info = self._env.reset(seed=seed, options=options)
        self._seed, self._options, self._done = seed, options, []
        return self._observation, info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        outcome = self._env.step(action)
        self._observation = outcome[0]
        self._done.append(action)
        return outcome

    def render(self) -> np.ndarray:
        return self._env.render()

    def depth(self) -> np.ndarray | None:
        """Float32 (H, W), metres; None for an environment without a depth camera."""
        camera = next((camera for camera in self.cameras if camera.kind == "depth"), None)
        return None if camera is None else self._observation[camera.name]

    def snapshot(self) -> Past:
        return self._seed, self._options, tuple(self._done)

    def restore(self, snapshot: Past) -> None:
        """Begin again and repeat what was done, which takes as long as it took then, without the waiting."""
        seed, options, done = snapshot
        self.reset(seed=seed, options=options)
        for action in done:
            self.step(action)

    def close(self) -> None:
        self._env.close()
