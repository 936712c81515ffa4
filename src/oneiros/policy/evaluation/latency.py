"""How long a decision takes, and what of it goes to which part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from oneiros.envs.pixel_env import PixelEnv
from oneiros.machine import all_cores, cores
from oneiros.policy.carry import Carry
from oneiros.policy.evaluation.rollouts import LearnedActor, begin_at, instruction_of, seed_of
from oneiros.records import Observation

_WARM_UP = 3
_T = TypeVar("_T")


def measure_latency(
    actor: LearnedActor,
    env: PixelEnv,
    *,
    task: str | None,
    decisions: int,
    max_steps: int,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Milliseconds, p50 and p95, of decisions in one environment: from its pictures to the chunk of actions.

    total: `act` whenever it decides, pictures made into frames included. Of a policy with stages also `imagine` (encode
    the frames, imagine on), `condition` (the Video Former) and `denoise` (the diffusion), timed on the same moments.
    """
    clock = _Clock(actor.device)
    start, count = 0, 0
    with all_cores():
        while count < decisions + _WARM_UP:
            observation = begin_at(env, task, start)
            actor.begin([seed_of(0, task, start)], [instruction_of(env, task)])
            start += 1
            for _ in range(max_steps):
                if actor.plans:
                    before = actor.carry
                    action = clock.time("total", lambda shown=observation: actor.act([shown], [env]))[0]
                    _time_parts(actor, before, actor.observation([observation], [env]), clock)
                    count += 1
                    advance(int(count > _WARM_UP))
                else:
                    action = actor.act([observation], [env])[0]
                observation, _, terminated, truncated, _ = env.step(action, observe=actor.looks)
                if terminated or truncated or count == decisions + _WARM_UP:
                    break
    return {
        "decision_ms": {name: _percentiles(values[_WARM_UP:]) for name, values in clock.seconds.items()},
        "decisions": decisions,
        "threads": cores(),
    }


def _time_parts(actor: LearnedActor, carry: Carry, observation: Observation, clock: _Clock) -> None:
    """Decide again, part by part, from where the actor stood at this observation."""
    model = actor.model
    if not isinstance(model, Staged):
        return
    seeds = carry.noise_seeds
    features = clock.time("imagine", lambda: model.imagine(carry, observation))
    tokens = clock.time("condition", lambda: model.condition(features, observation))
    clock.time("denoise", lambda: model.denoise(tokens, seeds))


@runtime_checkable
class Staged(Protocol):
    """A model that decides in stages, as a policy with a world does."""

    def imagine(self, carry: Carry, observation: Observation) -> Tensor: ...

    def condition(self, features: Tensor, observation: Observation) -> Tensor: ...

    def denoise(self, tokens: Tensor, seeds: Sequence[int]) -> Tensor: ...


class _Clock:
    """Seconds that parts of a decision took, by their names."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, part: Callable[[], _T]) -> _T:
        began = time.perf_counter()
        result = part()
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()  # it may still be computing
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        return result


def _percentiles(seconds: list[float]) -> dict[str, float]:
    times = torch.tensor(seconds, dtype=torch.float64) * 1000
    return {"p50": times.quantile(0.5).item(), "p95": times.quantile(0.95).item(), "mean": times.mean().item()}
