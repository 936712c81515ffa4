"""What a step pays and whether it ends the episode, from what the dynamics make of its action.

Both are read from the elements of the action itself (step 0 of the frame that it leads to), which see every frame
before and the action, but nothing of the frame that follows: the step that ends an episode often leads to none at all.

Rewards are classes where the data knows few, else two-hot over buckets that are evenly spaced in symlog and weighed so
that the expected value is the reward itself (DreamerV3, arXiv 2301.04104, section on robust predictions).

Legend: B batch, S steps, D width, R values a step can pay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.records import Outcomes
from oneiros.world.nn.norm import RMSNorm

MOST_CLASSES, BUCKETS = 32, 64
_MOST_VALUES = 2**16
_DIGITS = 6  # of a reward in float32: what differs less is the same


@dataclass(frozen=True)
class StepOutcome:
    """What came of one step of B dreams.

    reward: float32 (B,), expected, given whether it ended. terminated: bool (B,), drawn. end_probability: float32 (B,),
    by which it was drawn at temperature 1.
    """

    reward: Tensor
    terminated: Tensor
    end_probability: Tensor


class OutcomeHead(nn.Module):
    """Reward and end of a step, from its features (..., D).

    reward_values: ascending, what a step can pay or the centres of buckets; empty = steps do not pay. end_rate: the
    share of steps that ended an episode; 0 = none can. Ends are rare, so in the loss each counts as much more as makes
    ends and other steps alike to a square root, and that is taken out again of every probability.
    """

    def __init__(self, *, dim: int, reward_values: Sequence[float], end_rate: float) -> None:
        super().__init__()
        self.read = nn.Sequential(RMSNorm(dim), nn.Linear(dim, dim), nn.SiLU())
        self.register_buffer("values", torch.tensor(reward_values), persistent=False)
        self.values: Tensor
        self.reward = self.reward_at_end = self.end = None
        if reward_values:
            self.reward = _silent(nn.Linear(dim, len(reward_values)))
        if end_rate > 0:
            self.end = _silent(nn.Linear(dim, 1))
            self.log_weight = 0.5 * math.log((1 - end_rate) / end_rate)
            nn.init.constant_(self.end.bias, -self.log_weight)
            if reward_values:
                self.reward_at_end = _silent(nn.Linear(dim, len(reward_values)))

    def losses(self, features: Tensor, outcomes: Outcomes) -> dict[str, Tensor]:
        """Cross-entropy of rewards and weighed one of ends, as far as there are any: means over the valid steps.
        features (B, S, D), outcomes (B, S)."""
        valid, losses = outcomes.valid, {}
        hidden = self.read(features[valid].float())
        ended = None if outcomes.terminated is None else outcomes.terminated[valid].float()
        if self.reward is not None and outcomes.reward is not None:
            targets = two_hot(outcomes.reward[valid], self.values)
            logits = self._reward_logits(hidden, hidden.new_zeros(len(hidden)) if ended is None else ended)
            losses["reward"] = _mean(-(targets * logits.log_softmax(-1)).sum(-1))
        if self.end is not None and ended is not None:
            logits = self.end(hidden)[:, 0].float()
            unlikelihood = F.binary_cross_entropy_with_logits(logits, ended, reduction="none")
            losses["end"] = _mean(unlikelihood * torch.where(ended > 0, math.exp(self.log_weight), 1.0))
        return losses

    def expected(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (..., D) -> the reward to be expected, whether the step ends or not, and the probability that it
        does: float32 (...). Each 0 where there is none."""
        hidden = self.read(features.float())
        probability = self._end_logits(hidden).sigmoid()
        going, ended = (self._rewards(hidden, torch.full_like(probability, flag)) for flag in (0.0, 1.0))
        return going + probability * (ended - going), probability

    def draw(self, features: Tensor, generator: torch.Generator | None, temperature: float) -> StepOutcome:
        """features (B, D) -> the step's outcome. temperature: of the end; 0 = whether it is more likely than not."""
        hidden = self.read(features.float())
        logits = self._end_logits(hidden)
        terminated = logits > 0
        if temperature > 0 and self.end is not None:
            drawn = torch.rand(logits.shape, generator=generator, device=logits.device)  # as exported worlds draw
            terminated = drawn < (logits / temperature).sigmoid()
        return StepOutcome(self._rewards(hidden, terminated.float()), terminated, logits.sigmoid())

    def _end_logits(self, hidden: Tensor) -> Tensor:
        """The log odds of an end as often as it is in the data (...)."""
        if self.end is None:
            return hidden.new_full(hidden.shape[:-1], -torch.inf, dtype=torch.float32)
        return self.end(hidden)[..., 0].float() - self.log_weight

    def _reward_logits(self, hidden: Tensor, ended: Tensor) -> Tensor:
        assert self.reward is not None
        logits = self.reward(hidden).float()
        if self.reward_at_end is None:
            return logits
        return logits + ended[..., None] * self.reward_at_end(hidden).float()

    def _rewards(self, hidden: Tensor, ended: Tensor) -> Tensor:
        """What is paid on average (...) where a step ended (1) or did not (0)."""
        if self.reward is None:
            return torch.zeros_like(ended)
        return self._reward_logits(hidden, ended).softmax(-1) @ self.values


def two_hot(rewards: Tensor, values: Tensor) -> Tensor:
    """Rewards (M,) as shares of the two values beside each, of (R,) ascending ones: (M, R), whose mean value is the
    reward, but for what lies beyond the last values."""
    if len(values) == 1:
        return torch.ones(len(rewards), 1, device=rewards.device)
    upper = torch.searchsorted(values, rewards.contiguous()).clamp(1, len(values) - 1)
    low, high = values[upper - 1], values[upper]
    share = ((rewards - low) / (high - low)).clamp(0, 1)
    shares = torch.zeros(len(rewards), len(values), device=rewards.device)
    return shares.scatter(1, upper[:, None], share[:, None]).scatter(1, upper[:, None] - 1, 1 - share[:, None])


def values_of(rewards: np.ndarray) -> tuple[float, ...]:
    """What steps can pay by the rewards (M,) that were recorded: the values themselves where they are few, else the
    centres of buckets between the least and the most, evenly spaced in symlog, 0 among them."""
    distinct = {float(f"{value:.{_DIGITS}g}") for value in np.unique(rewards)}
    if len(distinct) <= MOST_CLASSES:
        return tuple(sorted(distinct))
    low, high = (math.copysign(math.log1p(abs(end)), end) for end in (rewards.min(), rewards.max()))
    spaced = np.linspace(low, high, BUCKETS)
    centres = np.sign(spaced) * np.expm1(np.abs(spaced))
    return tuple(np.union1d(centres, [0.0]).tolist() if low < 0 < high else centres.tolist())


def some_values(rewards: np.ndarray) -> np.ndarray:
    """The distinct ones of rewards (M,), from the least to the most; of very many, so many that `values_of` says the
    same."""
    distinct = np.unique(rewards)
    if len(distinct) <= _MOST_VALUES:
        return distinct
    return distinct[np.linspace(0, len(distinct) - 1, _MOST_VALUES).round().astype(int)]


def _silent(linear: nn.Linear) -> nn.Linear:
    """Says the same of everything until it has learned, as DreamerV3's reward head does."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)
