"""What an agent earns: in the real game, in the dream, beside chance and beside other agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np
import torch

from oneiros.agents.model import Agent
from oneiros.agents.planning import Planner
from oneiros.agents.vector import WorldVector

_NORMAL = 1.96  # standard errors to each side of a mean that hold the truth 95 times in 100


class Choosing(Protocol):
    """Chooses actions in a vector environment: observations (B, F) -> actions (B, ...)."""

    def __call__(self, observations: np.ndarray, env: WorldVector) -> np.ndarray: ...


class AgentPlayer:
    """An agent, drawing its actions, or taking the `likeliest`."""

    def __init__(self, agent: Agent, *, seed: int = 0, likeliest: bool = False) -> None:
        self._agent, self._generator, self._likeliest = agent, torch.Generator().manual_seed(seed), likeliest

    def __call__(self, observations: np.ndarray, env: WorldVector) -> np.ndarray:
        return self._agent.act(observations, generator=self._generator, likeliest=self._likeliest)


class RandomPlayer:
    """Any action of the space, each as likely as the others."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def __call__(self, observations: np.ndarray, env: WorldVector) -> np.ndarray:
        if self._seed >= 0:
            env.action_space.seed(self._seed)
            self._seed = -1
        return env.action_space.sample()


class PlannerPlayer:
    """A planner, game by game."""

    def __init__(self, planner: Planner, *, seed: int = 0) -> None:
        self._planner, self._rng = planner, np.random.default_rng(seed)

    def __call__(self, observations: np.ndarray, env: WorldVector) -> np.ndarray:
        states = [env.state.of(torch.tensor([row])) for row in range(env.num_envs)]
        return np.stack([self._planner.act(state, self._rng) for state in states])


@dataclass(frozen=True)
class Earned:
    """Episodes in the order of their games. returns, lengths: (E,), of each. ended: how many came to an end; the others
    were cut off."""

    returns: np.ndarray
    lengths: np.ndarray
    ended: int

    def to_json(self) -> dict[str, Any]:
        """Means, standard deviations and 95 % intervals of returns and lengths."""
        measured = {name: _summary(values) for name, values in (("return", self.returns), ("length", self.lengths))}
        return {"episodes": len(self.returns), "ended": self.ended, **measured}


def play(
    player: Choosing,
    env: WorldVector,
    *,
    episodes: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda amount: None,
) -> Earned:
    """Play so many episodes, as many in each environment, so that short ones do not count more often."""
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    returns, lengths, done, ended = np.zeros(env.num_envs), np.zeros(env.num_envs, int), np.zeros_like(quota), 0
    earned: list[list[tuple[float, int]]] = [[] for _ in quota]
    observations, _ = env.reset(seed=seed)
    while (done < quota).any():
        observations, rewards, terminated, truncated, _ = env.step(player(observations, env))
        returns += rewards
        lengths += 1
        counted = (terminated | truncated) & (done < quota)
        for row in np.flatnonzero(counted):
            earned[row].append((float(returns[row]), int(lengths[row])))
        ended += int((counted & terminated).sum())
        done += counted
        advance(int(counted.sum()))
        over = terminated | truncated
        returns[over], lengths[over] = 0, 0
    every = [pair for row in earned for pair in row]
    return Earned(np.array([each for each, _ in every]), np.array([length for _, length in every]), ended)


def _summary(values: np.ndarray) -> dict[str, float]:
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    half = _NORMAL * sd / sqrt(len(values))
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "median": float(np.median(values))}


def film(player: Choosing, env: WorldVector, *, seed: int = 0, most: int = 600) -> tuple[np.ndarray, float]:
    """One episode of the first environment, uint8 (T, H, W, 3), and what it earned. Its last picture is that before the
    end, since the next episode begins in the same step."""
    observations, _ = env.reset(seed=seed)
    frames, total = [env.frames()[0]], 0.0
    for _ in range(most):
        observations, rewards, terminated, truncated, _ = env.step(player(observations, env))
        total += float(rewards[0])
        if terminated[0] or truncated[0]:
            break
        frames.append(env.frames()[0])
    return np.stack(frames), total
