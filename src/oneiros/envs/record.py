"""Playing episodes and writing them down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oneiros.data.episodes.episode_writer import EpisodeApart
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import ActionSource
from oneiros.envs.pixel_env import PixelEnv, succeeded

ATTEMPTS = 20  # failures in a row after which an episode is given up

Keep = Literal["success", "all"]


@dataclass(frozen=True)
class Tally:
    """What was recorded, and the seconds it took.

    playing: of policy, environment, rendering and resizing. encoding: the rest.
    frames: those saved. failures: attempts that reached no success and were not saved; dropped: their frames.
    """

    episodes: int = 0
    frames: int = 0
    playing: float = 0.0
    encoding: float = 0.0
    failures: int = 0
    dropped: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.episodes + other.episodes,
            self.frames + other.frames,
            self.playing + other.playing,
            self.encoding + other.encoding,
            self.failures + other.failures,
            self.dropped + other.dropped,
        )


class _Failed(Exception):
    """An episode that is not to be saved."""


def record_episode(
    env: PixelEnv,
    writer: DatasetWriter | EpisodeApart,
    make_policy: Callable[[], ActionSource],
    *,
    seed: int,
    max_steps: int,
    task: str | None,
    keep: Keep = "all",
    without_actions: bool = False,
) -> Tally:
    """Play and write the dataset's next episode: until the environment ends it, or for `max_steps` steps.

    Row t holds what was seen, what was done then, and what came of it; the last row, where nothing was done any more,
    has no action. An episode of `max_steps` steps that the environment would have gone on with is truncated.
    Everything random follows from `seed` and the episode's place in the dataset, so that recording 5 + 5 episodes and
    recording 10 give the same ones. An environment of several `tasks` plays them in turns.

    task: the instruction saved with the episode; None takes the environment's own `task`.
    keep: `success` drops episodes that reach none and tries anew. without_actions: keep what was seen, and not what was
    done, as in a film; the writer's dataset says of each row whether its action is known (see `DatasetWriter`).

    Raises ValueError when 20 attempts in a row have failed, or when the environment never speaks of success.
    """
    tally = Tally()
    for attempt in range(ATTEMPTS):
        keys = [seed, writer.num_episodes, *([attempt] if attempt else [])]
        tally += _attempt(env, writer, make_policy, keys, max_steps, task, keep, without_actions)
        if tally.episodes:
            return tally
    raise ValueError(
        f"{writer.path}: episode {writer.num_episodes}: {ATTEMPTS} attempts in a row reached no success within "
        f"{max_steps} steps; allow more with --max-steps, play another --policy, or save them too with --keep all"
    )


def _attempt(
    env: PixelEnv,
    writer: DatasetWriter | EpisodeApart,
    make_policy: Callable[[], ActionSource],
    keys: list[int],
    max_steps: int,
    task: str | None,
    keep: Keep,
    without_actions: bool,
) -> Tally:
    """Play an episode, and write it where it is to be kept. keys: what everything random follows from."""
    started = clock = time.perf_counter()
    playing, frames, over, success, sure = 0.0, 0, False, None, float(not without_actions)
    rng, policy = np.random.default_rng(keys), make_policy()
    observation = _reset(env, keys, writer.num_episodes)
    try:
        with writer.episode(task=task or env.task) as episode:
            while not over and frames < max_steps:
                action = env.action_spec.done(policy(observation, env.action_spec, rng))
                row = {"images": _images(env, observation), "action": action, "state": _state(env, observation)}
                row |= {"action": None, "confidence": sure} if without_actions else {}
                previous, (observation, reward, terminated, truncated, info) = observation, env.step(action)
                playing += time.perf_counter() - clock
                frames += 1
                cut = truncated or frames == max_steps
                episode.add(**row, reward=float(reward), terminated=terminated, truncated=cut)
                clock = time.perf_counter()
                over, reached = terminated or truncated, succeeded(info)
                success = success if reached is None else reached or bool(success)
            if observation is not previous:  # ViZDoom has no picture of an episode's end
                episode.add(images=_images(env, observation), state=_state(env, observation), confidence=sure)
                frames += 1
            if keep == "success" and success is None:
                raise ValueError(f"{writer.path}: this environment never speaks of success; record with --keep all")
            if keep == "success" and not success:
                raise _Failed
    except _Failed:
        return Tally(0, 0, playing, time.perf_counter() - started - playing, failures=1, dropped=frames)
    return Tally(1, frames, playing, time.perf_counter() - started - playing)


def _reset(env: PixelEnv, keys: list[int], place: int) -> dict[str, np.ndarray]:
    """A fresh start for the episode at this place of the dataset."""
    options = {"task": env.tasks[place % len(env.tasks)]} if env.tasks else None
    return env.reset(seed=int(np.random.SeedSequence(keys).generate_state(1)[0]), options=options)[0]


def _images(env: PixelEnv, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies: they are saved when the step they led to is done, and an environment may draw into the same memory."""
    return {camera.name: observation[camera.name].copy() for camera in env.cameras}


def _state(env: PixelEnv, observation: dict[str, np.ndarray]) -> np.ndarray | None:
    state = observation.get("observation.state")
    if state is not None and not np.isfinite(state).all():
        number = int((~np.isfinite(state)).argmax())
        raise ValueError(
            f"the environment's {env.state_names[number]} is {state[number]}, which no dataset can hold; --no-state "
            "records without such numbers"
        )
    return state
