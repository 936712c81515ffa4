"""Learning from what a vector environment pays: an actor and a critic over short pieces of many episodes.

Returns are lambda-returns over pieces of a few steps, at whose end the critic says what is to come (Dreamer,
arXiv 1912.01603, section 3). A dreamed frame costs a thousand times what a small actor costs, so every piece is learned
from several times, within the trust region of PPO (arXiv 1707.06347).

Legend: T steps of a piece, B environments, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from oneiros.agents.model import Agent
from oneiros.agents.settings import LearningConfig


@dataclass(frozen=True)
class Piece:
    """features: (T, B, F), before each step. actions: (T, B, ...). rewards: (T, B), scaled. carries: (T, B), 0 where
    the step ended its episode, else 1. over: bool (T, B), where another episode begins after the step. values: (T, B),
    of the features. next_values: (T, B), of what each step led to, before another episode begins."""

    features: Tensor
    actions: Tensor
    rewards: Tensor
    carries: Tensor
    over: Tensor
    values: Tensor
    next_values: Tensor


class Learner:
    """Plays `env`, whose autoreset must be SAME_STEP, with an agent that it teaches."""

    def __init__(self, agent: Agent, env: VectorEnv, config: LearningConfig, *, seed: int = 0) -> None:
        self.agent, self.env, self.config = agent, env, config
        self.optimizer = torch.optim.Adam(agent.parameters(), lr=config.lr, eps=1e-5)
        self.generator = torch.Generator().manual_seed(seed)
        self.tally = ReturnTally(env.num_envs, config.gamma)
        self._features = _tensor(env.reset(seed=seed)[0])

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on with; episodes that are not over begin anew."""
        return {
            "model": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "square": self.tally.square,
            "counted": self.tally.counted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for the state of another agent."""
        try:
            self.agent.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.tally.square, self.tally.counted = float(state["square"]), int(state["counted"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"the state is not this agent's: {str(error).partition(chr(10))[0]}") from None

    def learn(self) -> dict[str, float]:
        """Play a piece and learn from it. Returns what it was like."""
        piece = self._play()
        targets = lambda_returns(piece, self.config.gamma, self.config.return_lambda)
        advantages = targets - piece.values
        measured = self._update(piece, targets, advantages)
        explained = 1 - (advantages.var() / targets.var().clamp_min(1e-8)).item()
        return self.tally.take() | measured | {"explained": explained}

    @torch.no_grad()
    def _play(self) -> Piece:
        agent, rows = self.agent, []
        for _ in range(self.config.horizon):
            features = self._features
            actions = agent.draw(features, self.generator)
            observation, rewards, terminated, truncated, info = self.env.step(actions.numpy())
            if not np.isfinite(rewards).all():
                raise ValueError("the environment pays rewards that are no numbers (NaN or infinite)")
            self.tally.add(rewards, terminated, truncated)
            self._features = _tensor(observation)
            led_to, over = self._features, terminated | truncated
            if over.any():
                led_to = led_to.clone()
                led_to[torch.from_numpy(over)] = _tensor(np.stack(list(info["final_obs"][over])))
            flags = (torch.from_numpy(~terminated).float(), torch.from_numpy(over))
            rows.append((features, actions, _tensor(rewards), *flags, agent.value(features), agent.value(led_to)))
        agent.reward_scale.fill_(self.tally.scale)
        features, actions, rewards, carries, over, values, next_values = map(torch.stack, zip(*rows, strict=True))
        return Piece(features, actions, rewards / agent.reward_scale, carries, over, values, next_values)

    def _update(self, piece: Piece, targets: Tensor, advantages: Tensor) -> dict[str, float]:
        config, agent = self.config, self.agent
        features, actions = piece.features.flatten(0, 1), piece.actions.flatten(0, 1)
        targets, advantages = targets.flatten(), advantages.flatten()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
        with torch.no_grad():
            before, _ = agent.judge(features, actions)
        sums: dict[str, float] = dict.fromkeys(("policy", "value", "entropy", "moved"), 0.0)
        for _ in range(config.epochs):
            order = torch.randperm(len(features), generator=self.generator)
            for rows in order.chunk(config.batches):
                logs, entropy = agent.judge(features[rows], actions[rows])
                ratio = (logs - before[rows]).exp()
                clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                policy = -torch.minimum(ratio * advantages[rows], clipped * advantages[rows]).mean()
                value = 0.5 * (agent.value(features[rows]) - targets[rows]).square().mean()
                self.optimizer.zero_grad()
                (policy + value - config.entropy * entropy.mean()).backward()
                torch.nn.utils.clip_grad_norm_(agent.parameters(), config.clip_norm)
                self.optimizer.step()
                moved = (ratio.detach() - 1).abs().mean()
                for name, part in zip(sums, (policy, value, entropy.mean(), moved), strict=True):
                    sums[name] += part.item() / (config.epochs * config.batches)
        return sums


def lambda_returns(piece: Piece, gamma: float, lambda_: float) -> Tensor:
    """What each step's state was worth (T, B), in hindsight: rewards, then the critic's word, mixed by lambda."""
    following, returns = piece.next_values[-1], []
    for t in reversed(range(len(piece.rewards))):
        next_value = piece.next_values[t]
        ahead = torch.where(piece.over[t], next_value, (1 - lambda_) * next_value + lambda_ * following)
        following = piece.rewards[t] + gamma * piece.carries[t] * ahead
        returns.append(following)
    return torch.stack(returns[::-1])


class ReturnTally:
    """Returns and lengths of episodes that are over, and how large rewards are: the root mean square of their
    discounted sums, by which the critic's world is scaled."""

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.square, self.counted = 0.0, 0
        self._sums, self._steps, self._discounted = np.zeros(num_envs), np.zeros(num_envs, int), np.zeros(num_envs)
        self._clear()

    @property
    def scale(self) -> float:
        return max(1e-8, (self.square / self.counted) ** 0.5) if self.square else 1.0

    def add(self, rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray) -> None:
        over = terminated | truncated
        self._sums += rewards
        self._steps += 1
        self._discounted = self.gamma * self._discounted + rewards
        self.square += float((self._discounted**2).sum())
        self.counted += len(rewards)
        self._rewards += float(rewards.sum())
        self._seen += len(rewards)
        self._ends += int(terminated.sum())
        self._returns += self._sums[over].tolist()
        self._lengths += self._steps[over].tolist()
        self._sums[over], self._steps[over], self._discounted[over] = 0, 0, 0

    def take(self) -> dict[str, float]:
        """What came since the last time: reward a step, how often steps ended an episode, and the means of returns and
        lengths where episodes are over."""
        taken = {"reward": self._rewards / max(1, self._seen), "ends": self._ends / max(1, self._seen)}
        if self._returns:
            taken |= {"return": float(np.mean(self._returns)), "length": float(np.mean(self._lengths))}
        self._clear()
        return taken

    def _clear(self) -> None:
        self._rewards, self._seen, self._ends = 0.0, 0, 0
        self._returns: list[float] = []
        self._lengths: list[int] = []


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
