"""The real environment beside a dream of it: both begin in the same place, and the same keys move both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oneiros.agreement import Controls, check_agreement
from oneiros.data.frames import depth_to_model, to_model
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env
from oneiros.envs.replay import Replayed
from oneiros.records import Camera, Clip
from oneiros.world.starts import CONTEXT

if TYPE_CHECKING:
    from oneiros.world.model import World


class RealEnv(Replayed):
    """The environment `name` (as in `make_env`), as fast and as large as the world's frames.

    depth_camera: of the world's run, for worlds of colour and depth. Raises ValueError where its actions are not the
    world's or it cannot run as fast, ModuleNotFoundError where what it runs on is not installed.
    """

    def __init__(self, name: str, world: World, *, depth_camera: Camera | None = None) -> None:
        size, config = world.tokenizer.config, world.config
        self._stride, self._depth_camera = config.frame_stride * world.tokenizer.temporal_stride, depth_camera
        fps = config.fps * config.frame_stride
        env = make_env(name, height=size.height, width=size.width, depth=size.channels == 4, fps=fps)
        super().__init__(env)
        try:
            expected = Controls("this world", config.action_spec, fps)
            check_agreement(Controls(name, env.action_spec, env.fps), expected)
        except ValueError:
            self.close()
            raise

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """The action held for as long as one step of the dream lasts; the sum of its rewards."""
        total = 0.0
        for _ in range(self._stride):
            observation, reward, terminated, truncated, info = self._env.step(action)
            total += reward
            if terminated or truncated:
                break
        self._done.append(action)
        self._observation = observation
        return observation, total, terminated, truncated, info

    def context(self, *, seed: int) -> Clip:
        """A start for the dream, of one sample: the first frames and actions of a new episode, explored at random."""
        rng, policy = np.random.default_rng(seed), StickyRandom()
        observation, _ = self.reset(seed=seed)
        frames, actions, over = [self._frame()], [], False
        while len(frames) < CONTEXT and not over:
            action = policy(observation, self.action_spec, rng)
            observation, _, terminated, truncated, _ = self.step(action)
            over = terminated or truncated
            frames.append(self._frame())
            actions.append(np.tile(action, self._stride) if self.action_spec.kind == "continuous" else action)
        done = torch.from_numpy(np.stack(actions))[None] if actions else None
        return Clip(torch.stack(frames, 0)[None], done, torch.ones(1, len(frames), dtype=torch.bool))

    def _frame(self) -> torch.Tensor:
        """(C, H, W) in [-1, 1], as the world sees it."""
        colour, metres = to_model(self.render()), self.depth()
        if metres is None or self._depth_camera is None:
            return colour
        return torch.cat([colour, depth_to_model(metres, self._depth_camera)[None]])
