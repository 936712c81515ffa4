"""Games for tests: dreams of the dot, whose truth is known, and the dot's real environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from oneiros.data.frames import to_model, to_uint8
from oneiros.envs.replay import Replayed
from oneiros.records import Camera, Clip
from oneiros.sampling import Sampling
from oneiros.web.game import Game
from oneiros.world.dream import Dream
from tests.dot_world import SIZE, SPECS, DotWorld, draw_dots, moves, real_episode

STILL = Sampling(temperature=0.0)
CAMERA = Camera("observation.images.front", SIZE, SIZE)


class DotEnv:
    """The real thing: begins where the seed says, ends after `length` steps."""

    action_spec, cameras, fps = SPECS["keys"], (CAMERA,), 10

    def __init__(self, length: int) -> None:
        self.length, self.closed = length, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.place = torch.randint(SIZE, (2,), generator=torch.Generator().manual_seed(seed or 0))
        self.age = 0
        return {CAMERA.name: self.render()}, {}

    def step(self, action):
        self.place = (self.place + moves(torch.as_tensor(action), self.action_spec)) % SIZE
        self.age += 1
        return {CAMERA.name: self.render()}, 0.0, self.age >= self.length, False, {}

    def render(self) -> np.ndarray:
        return draw_dots(self.place).numpy()

    def close(self) -> None:
        self.closed = True


class DotBeside(Replayed):
    """Stands still for a moment and lets the dream begin there."""

    def context(self, *, seed: int) -> Clip:
        self.reset(seed=seed)
        frames = [self.render()]
        for _ in range(3):
            self.step(np.zeros(4, bool))
            frames.append(self.render())
        return Clip(to_model(np.stack(frames))[None], torch.zeros(1, 3, 4, dtype=torch.bool), torch.ones(1, 4).bool())


def start(seed: int) -> Clip:
    frames, actions = real_episode(4, SPECS["keys"], seed)
    return Clip(to_model(frames)[None], actions[None, :3], torch.ones(1, 4, dtype=torch.bool))


def dot_game(*, sampling: Sampling = STILL, beside: bool = False, length: int = 10_000, world: Any = None) -> Game:
    world, starts = world or DotWorld("keys"), [start(seed) for seed in range(3)]
    return Game(
        title="the dot",
        source="dream:dot",
        make_env=lambda: Dream(world, starts),
        make_beside=(lambda: DotBeside(DotEnv(length))) if beside else None,
        action_spec=SPECS["keys"],
        fps=10.0,
        cameras=(CAMERA,),
        dreams=True,
        pictures=[to_uint8(start.frames[0, -1]).numpy() for start in starts],
        sampling=sampling,
        outcomes=world.config.pays,
    )


def real_game(*, length: int) -> Game:
    return Game(
        title="the dot itself",
        source="dot",
        make_env=lambda: Replayed(DotEnv(length)),
        action_spec=SPECS["keys"],
        fps=10.0,
        cameras=(CAMERA,),
    )
