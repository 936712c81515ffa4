"""Real games, each with the world's state beside it: what an agent that learned in dreams acts in.

Legend: B games, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.agents.states import begin, observe, pooled, to_model
from oneiros.agents.vector import Observe, WorldVector
from oneiros.agreement import Controls, check_agreement
from oneiros.data.frames import depth_to_model, resize, to_uint8
from oneiros.data.frames import to_model as frames_to_model
from oneiros.envs.make import make_env
from oneiros.envs.pixel_env import PixelEnv
from oneiros.records import Camera, CodeClip
from oneiros.run_folder import read_origin
from oneiros.world.model import World
from oneiros.world.state import WorldState


class RealVector(WorldVector):
    """B games of a real environment, of which a world sees every frame that it would have dreamed.

    make: opens one game (see `open_game`). depth_camera: how the world's depth is coded, where it has any. A step lasts
    as many steps of the game as the world's frames are apart, and pays their sum. steps: of the games so far, together.
    """

    def __init__(
        self,
        world: World,
        make: Callable[[], PixelEnv],
        *,
        num_envs: int = 8,
        observe: Observe = "features",
        max_steps: int | None = None,
        depth_camera: Camera | None = None,
    ) -> None:
        super().__init__(world, num_envs, observe=observe, max_steps=max_steps)
        self._depth_camera, self.steps = depth_camera, 0
        self.games: list[PixelEnv] = []
        try:
            for _ in range(num_envs):
                self.games.append(make())
        except BaseException:
            self.close()
            raise
        size = world.tokenizer.config
        self._frames = torch.zeros(num_envs, size.channels, size.height, size.width)

    @classmethod
    def of_game(cls, name: str, world: World, run: Path, *, num_envs: int) -> RealVector:
        """Games of the environment `name` for the world of a run folder (see `open_game`)."""
        depth = read_origin(run).depth_camera
        return cls(world, lambda: open_game(name, world), num_envs=num_envs, depth_camera=depth)

    def frames(self) -> np.ndarray:
        """The newest frames as the games show them, uint8 (B, H, W, 3)."""
        return to_uint8(self._frames).numpy()

    def close_extras(self, **_: Any) -> None:
        for game in self.games:
            game.close()

    def _advance(
        self, state: WorldState, actions: np.ndarray, model_actions: Tensor | None
    ) -> tuple[WorldState, np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, terminated, truncated = np.zeros(self.num_envs), *np.zeros((2, self.num_envs), bool)
        for row, game in enumerate(self.games):
            for _ in range(self.world.config.frame_stride):
                observation, reward, terminated[row], truncated[row], _ = game.step(game.action_spec.done(actions[row]))
                rewards[row] += float(reward)
                self.steps += 1
                if terminated[row] or truncated[row]:
                    break
            self._frames[row] = frame_of(game, observation, self.world, self._depth_camera)
        return observe(self.world, state, model_actions, self._frames), rewards, terminated, {"truncated": truncated}

    def _begin(self, rows: np.ndarray, time: int) -> WorldState:
        for row in rows:
            game = self.games[row]
            options = {"task": game.tasks[0]} if game.tasks else None
            observation, _ = game.reset(seed=int(self.np_random.integers(2**31)), options=options)
            self._frames[row] = frame_of(game, observation, self.world, self._depth_camera)
        return begin_at_frames(self.world, self._frames[torch.from_numpy(rows)], time=time)


def begin_at_frames(world: World, frames: Tensor, *, time: int) -> WorldState:
    """The state after the first frames (B, C, H, W) of episodes."""
    with torch.no_grad():
        codes = world.tokenizer.encode(frames[:, None].to(world.device))
    return begin(world, CodeClip(codes, None, torch.ones(codes.shape[:2], dtype=torch.bool)), time=time)


def frame_of(game: PixelEnv, observation: dict[str, np.ndarray], world: World, depth_camera: Camera | None) -> Tensor:
    """What the game shows, (C, H, W) in [-1, 1] as the world sees it."""
    size = world.tokenizer.config
    colours = next(camera.name for camera in game.cameras if camera.kind == "rgb")
    colour = frames_to_model(np.ascontiguousarray(resize(observation[colours][None], size.height, size.width)[0]))
    if size.channels == 3:
        return colour
    metres = next(observation[camera.name] for camera in game.cameras if camera.kind == "depth")
    if depth_camera is None:
        raise ValueError("this world sees depth, and its run does not tell how that is coded")
    return torch.cat([colour, depth_to_model(metres, depth_camera)[None]])


def open_game(name: str, world: World) -> PixelEnv:
    """The environment `name` (see `make_env`) as fast and as large as the world's frames. Raises ValueError where its
    actions are not the world's, or it cannot run as fast."""
    size, config = world.tokenizer.config, world.config
    fps = config.fps * config.frame_stride
    game = make_env(name, height=size.height, width=size.width, depth=size.channels == 4, fps=fps)
    try:
        check_agreement(Controls(name, game.action_spec, game.fps), Controls("this world", config.action_spec, fps))
    except ValueError:
        game.close()
        raise
    return game


class Playing:
    """An agent as a policy for `oneiros record`: called as `policy(observation, spec, rng)`, one episode each."""

    def __init__(
        self,
        world: World,
        act: Callable[[np.ndarray, np.random.Generator], np.ndarray],
        game: PixelEnv,
        depth_camera: Camera | None = None,
    ) -> None:
        """act: actions (1, ...) from features (1, F) and random numbers."""
        self._world, self._act, self._game, self._depth_camera = world, act, game, depth_camera
        self._state: WorldState | None = None
        self._action: Any = None
        self._rows = 0

    def __call__(self, observation: Any, spec: Any, rng: np.random.Generator) -> Any:
        if self._rows % self._world.config.frame_stride == 0:
            frame = frame_of(self._game, observation, self._world, self._depth_camera)[None]
            if self._state is None:
                self._state = begin_at_frames(self._world, frame, time=0)
            else:
                self._state = observe(self._world, self._state, to_model(self._world, self._action), frame)
            self._state, features = pooled(self._world, self._state)
            self._action = self._act(features, rng)
        self._rows += 1
        return self._action[0]
