"""Playing episodes and writing them down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oneiros.data.writer import DatasetWriter
from oneiros.envs.explore import Policy
from oneiros.envs.make import PixelEnv


@dataclass(frozen=True)
class Tally:
    """Seconds that recording took: `playing` is policy, environment, rendering and resizing, `encoding` the rest."""

    episodes: int = 0
    frames: int = 0
    playing: float = 0.0
    encoding: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.episodes + other.episodes,
            self.frames + other.frames,
            self.playing + other.playing,
            self.encoding + other.encoding,
        )


def record_episode(
    env: PixelEnv,
    writer: DatasetWriter,
    make_policy: Callable[[], Policy],
    *,
    seed: int,
    max_steps: int,
    task: str,
) -> Tally:
    """Play and write the dataset's next episode: until the environment ends it, or for `max_steps` steps.

    Row t holds what was seen and what was done then; the last row, where nothing was done any more, has no action.
    Everything random follows from `seed` and the episode's place in the dataset, so that recording 5 + 5 episodes and
    recording 10 give the same ones.
    """
    place = writer.num_episodes
    rng, policy = np.random.default_rng([seed, place]), make_policy()
    playing, frames, started = 0.0, 0, time.perf_counter()
    with writer.episode(task=task) as episode:
        clock = time.perf_counter()
        observation, _ = env.reset(seed=int(np.random.SeedSequence([seed, place]).generate_state(1)[0]))
        over = False
        while not over and frames < max_steps:
            action = policy(observation, env.action_spec, rng)
            playing += time.perf_counter() - clock
            episode.add(images=_images(env, observation), action=action, state=_state(observation))
            frames += 1
            clock = time.perf_counter()
            seen, (observation, _, terminated, truncated, _) = observation, env.step(action)
            over = terminated or truncated
        playing += time.perf_counter() - clock
        if observation is not seen:  # ViZDoom has no picture of an episode's end
            episode.add(images=_images(env, observation), action=None, state=_state(observation))
            frames += 1
    return Tally(1, frames, playing, time.perf_counter() - started - playing)


def _images(env: PixelEnv, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {camera.name: observation[camera.name] for camera in env.cameras}


def _state(observation: dict[str, np.ndarray]) -> np.ndarray | None:
    return observation.get("observation.state")
