"""Episodes from given starts: several environments of one task, side by side, one actor for all of them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from oneiros.envs.explore import StickyRandom
from oneiros.envs.pixel_env import PixelEnv, succeeded
from oneiros.policy.evaluation.observing import Images, ObservationSpec, observe, state_of
from oneiros.records import Observation


@dataclass(frozen=True)
class Outcome:
    """How an episode went. start: its number. success: in any step; None where the environment does not tell.
    steps: until success or the end. total: of the rewards. seconds: of its share of the batch's time."""

    start: int
    success: bool | None
    steps: int
    total: float
    seconds: float


class Actor(Protocol):
    """Something that acts in several environments at once.

    looks: whether the next `act` needs new pictures.
    """

    looks: bool

    def begin(self, seeds: Sequence[int], tasks: Sequence[str]) -> None: ...

    def act(self, observations: Sequence[Images], envs: Sequence[PixelEnv]) -> Sequence[Any]: ...

    def keep(self, places: Sequence[int]) -> None: ...


class LearnedActor:
    """A policy or a cloning. Pictures become frames only where the next decision needs them."""

    looks = True

    def __init__(self, model: Any, observation_spec: ObservationSpec, *, device: str = "cpu") -> None:
        self.model, self.observation_spec, self.device = model, observation_spec, device

    def begin(self, seeds: Sequence[int], tasks: Sequence[str]) -> None:
        self._tasks, self._latest = tuple(task or self.observation_spec.instruction for task in tasks), None
        self.carry = self.model.init(len(seeds), seeds=list(seeds))
        self.looks = True

    def observation(self, observations: Sequence[Images], envs: Sequence[PixelEnv]) -> Observation:
        """What the model is given: new frames where it looks, else those it was given last."""
        if self.looks or self._latest is None:
            self._latest = observe(observations, envs, self._tasks, self.observation_spec)
        else:
            self._latest = replace(self._latest, state=state_of(observations, self.observation_spec))
        return self._latest.to(self.device)

    @torch.no_grad()
    def act(self, observations: Sequence[Images], envs: Sequence[PixelEnv]) -> Sequence[Any]:
        self.carry, actions = self.model.act(self.carry, self.observation(observations, envs))
        self.looks = bool(self.carry.plans_next)
        return list(actions.cpu().numpy())

    @property
    def plans(self) -> bool:
        """Whether the next `act` decides on a new chunk of actions."""
        return bool(self.carry.chunking.plans(self.carry.step))

    def keep(self, places: Sequence[int]) -> None:
        self.carry = self.carry.take(list(places))
        self._tasks = tuple(self._tasks[place] for place in places)
        if self._latest is not None:
            self._latest = _taken(self._latest, places)


class ExpertActor:
    """The environment's own script, which sees what no policy sees."""

    looks = False

    def begin(self, seeds: Sequence[int], tasks: Sequence[str]) -> None:
        return None

    def act(self, observations: Sequence[Images], envs: Sequence[PixelEnv]) -> Sequence[Any]:
        return [env.expert_action() for env in envs]

    def keep(self, places: Sequence[int]) -> None:
        return None


class RandomActor:
    """Random actions, each held for a while, so that they lead somewhere."""

    looks = False

    def begin(self, seeds: Sequence[int], tasks: Sequence[str]) -> None:
        self._each = [(StickyRandom(), np.random.default_rng(seed)) for seed in seeds]

    def act(self, observations: Sequence[Images], envs: Sequence[PixelEnv]) -> Sequence[Any]:
        triples = zip(self._each, observations, envs, strict=True)
        return [draw(observation, env.action_spec, rng) for (draw, rng), observation, env in triples]

    def keep(self, places: Sequence[int]) -> None:
        self._each = [self._each[place] for place in places]


def play(
    actor: Actor,
    envs: Sequence[PixelEnv],
    *,
    task: str | None,
    starts: Sequence[int],
    max_steps: int,
    seed: int = 0,
) -> list[Outcome]:
    """An episode from each start, side by side: until success, the environment's end, or `max_steps` steps.

    envs: as many as starts, or more. task: its id, for environments that have several. Everything random follows from
    `seed`, task and start alone.
    """
    began = time.perf_counter()
    running = list(range(len(starts)))
    observations: list[Images] = [begin_at(envs[i], task, starts[i]) for i in running]
    actor.begin([seed_of(seed, task, start) for start in starts], [instruction_of(envs[i], task) for i in running])
    successes: list[bool | None] = [None] * len(starts)
    totals, steps = [0.0] * len(starts), [0] * len(starts)
    while running:
        actions = actor.act([observations[i] for i in running], [envs[i] for i in running])
        kept = []
        for place, (i, action) in enumerate(zip(running, actions, strict=True)):
            observations[i], reward, terminated, truncated, info = envs[i].step(action, observe=actor.looks)
            totals[i] += float(reward)
            steps[i] += 1
            if (reached := succeeded(info)) is not None:
                successes[i] = reached or bool(successes[i])
            if not (successes[i] or terminated or truncated or steps[i] == max_steps):
                kept.append(place)
        if 0 < len(kept) < len(running):
            actor.keep(kept)
        running = [running[place] for place in kept]
    share = (time.perf_counter() - began) / len(starts)
    return [Outcome(starts[i], successes[i], steps[i], totals[i], share) for i in range(len(starts))]


def begin_at(env: PixelEnv, task: str | None, start: int) -> Images:
    """The first observation of an episode from a numbered start: one of the task's own, or else that number as seed."""
    if task is None:
        return env.reset(seed=start)[0]
    return env.reset(options={"task": task, "start": start})[0]


def instruction_of(env: PixelEnv, task: str | None) -> str:
    """The instruction of the episode under way, as recordings are labelled; empty where the environment has none."""
    return env.task or task or ""


def seed_of(seed: int, task: str | None, start: int) -> int:
    """Of an episode's own random numbers."""
    return int(np.random.SeedSequence([seed, zlib.crc32((task or "").encode()), start]).generate_state(1)[0])


def _taken(observation: Observation, places: Sequence[int]) -> Observation:
    """The same of some of the environments."""

    def of(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[list(places)]

    return Observation(
        frames=observation.frames[list(places)],
        state=of(observation.state),
        task=None if observation.task is None else tuple(observation.task[place] for place in places),
        depth=of(observation.depth),
    )
