"""Playing episodes and writing them down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oneiros.data.writer import DatasetWriter
from oneiros.envs.explore import Policy
from oneiros.envs.make import PixelEnv

ATTEMPTS = 20  # failures in a row after which an episode is given up

Keep = Literal["success", "all"]


@dataclass(frozen=True)
class Tally:
    """Seconds that recording took: `playing` is policy, environment, rendering and resizing, `encoding` the rest.

    frames: those saved. failures: episodes played and not saved, because they reached no success.
    """

    episodes: int = 0
    frames: int = 0
    playing: float = 0.0
    encoding: float = 0.0
    failures: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.episodes + other.episodes,
            self.frames + other.frames,
            self.playing + other.playing,
            self.encoding + other.encoding,
            self.failures + other.failures,
        )


class _Failed(Exception):
    """An episode that is not worth saving."""


def record_episode(
    env: PixelEnv,
    writer: DatasetWriter,
    make_policy: Callable[[], Policy],
    *,
    seed: int,
    max_steps: int,
    task: str | None,
    keep: Keep = "all",
) -> Tally:
    """Play and write the dataset's next episode: until the environment ends it, or for `max_steps` steps.

    Row t holds what was seen and what was done then; the last row, where nothing was done any more, has no action.
    Everything random follows from `seed` and the episode's place in the dataset, so that recording 5 + 5 episodes and
    recording 10 give the same ones. An environment of several `tasks` plays them in turns. task: the instruction saved,
    None for the environment's own.

    keep: `success` drops episodes that reach none and tries anew. Raises ValueError when 20 in a row have failed.
    """
    tally = Tally()
    for attempt in range(ATTEMPTS):
        tally += _attempt(env, writer, make_policy, seed, attempt, max_steps, task, keep)
        if tally.episodes:
            return tally
    raise ValueError(
        f"{writer.path}: episode {writer.num_episodes}: {ATTEMPTS} attempts in a row reached no success within "
        f"{max_steps} steps; allow more steps, choose another policy, or keep all episodes"
    )


def _attempt(
    env: PixelEnv,
    writer: DatasetWriter,
    make_policy: Callable[[], Policy],
    seed: int,
    attempt: int,
    max_steps: int,
    task: str | None,
    keep: Keep,
) -> Tally:
    place = writer.num_episodes
    keys = [seed, place, attempt] if attempt else [seed, place]
    tasks = getattr(env, "tasks", ())
    options = {"task": tasks[place % len(tasks)]} if tasks else None
    playing, frames, started = 0.0, 0, time.perf_counter()
    rng = np.random.default_rng(keys)
    try:
        clock = time.perf_counter()
        observation, _ = env.reset(seed=int(np.random.SeedSequence(keys).generate_state(1)[0]), options=options)
        policy = make_policy()
        with writer.episode(task=task or getattr(env, "task", "")) as episode:
            over = success = False
            while not over and frames < max_steps:
                action = policy(observation, env.action_spec, rng)
                playing += time.perf_counter() - clock
                episode.add(images=_images(env, observation), action=action, state=_state(observation))
                frames += 1
                clock = time.perf_counter()
                seen, (observation, _, terminated, truncated, info) = observation, env.step(action)
                success = success or bool(info.get("success", info.get("is_success", False)))
                over = terminated or truncated
            playing += time.perf_counter() - clock
            if keep == "success" and not success:
                raise _Failed
            if observation is not seen:  # ViZDoom has no picture of an episode's end
                episode.add(images=_images(env, observation), action=None, state=_state(observation))
                frames += 1
    except _Failed:
        return Tally(playing=playing, encoding=time.perf_counter() - started - playing, failures=1)
    return Tally(1, frames, playing, time.perf_counter() - started - playing)


def _images(env: PixelEnv, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {camera.name: observation[camera.name] for camera in env.cameras}


def _state(observation: dict[str, np.ndarray]) -> np.ndarray | None:
    return observation.get("observation.state")
