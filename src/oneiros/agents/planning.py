"""Choosing actions by dreaming them: random shooting and the cross-entropy method, without training.

Sources: the cross-entropy method as in PlaNet (arXiv 1811.04551, section 3).

Legend: C candidates, L steps ahead, A names of actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from oneiros.agents.dream_vector import DreamVector
from oneiros.agents.eval_config import Plan
from oneiros.records import ActionSpec
from oneiros.world.state import WorldState


@dataclass(frozen=True)
class PlanConfig:
    """How far and how widely a planner looks."""

    horizon: int = 8
    """Steps that candidates look ahead."""
    rounds: int = 3
    """Of the cross-entropy method, in each of which all candidates are dreamed."""
    elites: float = 0.15
    """The share of candidates that the next round learns from."""
    gamma: float = 0.99
    """What the next step's reward is worth beside this one's."""
    hold: float = 0.5
    """How often a step of a candidate repeats the action before it."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.rounds < 1:
            raise ValueError(f"horizon is {self.horizon} and rounds {self.rounds}; both must be at least 1")
        if not 0 < self.elites <= 1 or not 0 <= self.hold <= 1 or not 0 <= self.gamma <= 1:
            raise ValueError("elites must lie in (0, 1], hold and gamma in [0, 1]")


class Planner:
    """Chooses the first action of the candidate that a world expects most of; `dreams` has as many as it can dream.

    `shooting` draws candidates at random once; `cem` draws again around the best of them, a few times. Ends count as
    likely as the world holds them: what may be over pays less.
    """

    def __init__(self, dreams: DreamVector, plan: Plan = "cem", config: PlanConfig | None = None) -> None:
        spec = dreams.world.config.action_spec
        if spec is None:
            raise ValueError("this world knows no actions: there is nothing to choose")
        if plan not in ("shooting", "cem"):
            raise ValueError(f"planner is {plan!r}; choose shooting or cem")
        self._dreams, self._spec, self.plan, self.config = dreams, spec, plan, config or PlanConfig()

    def act(self, state: WorldState, rng: np.random.Generator) -> np.ndarray:
        """The action for a state of one sample, as in `ActionSpec`."""
        belief = _Belief.even(self._spec, self.config.horizon)
        rounds = self.config.rounds if self.plan == "cem" else 1
        best, most = None, -np.inf
        for _ in range(rounds):
            candidates = belief.draw(self._dreams.num_envs, self.config.hold, rng)
            returns = self.returns(state, candidates)
            if returns.max() > most:
                best, most = candidates[returns.argmax()], returns.max()
            elites = returns.argsort()[-max(2, round(self.config.elites * len(returns))) :]
            belief = belief.fitted(candidates[elites])
        assert best is not None
        return best[0]

    def returns(self, state: WorldState, candidates: np.ndarray) -> np.ndarray:
        """What the world expects of candidates (C, L, ...), float64 (C,)."""
        dreams, totals = self._dreams, np.zeros(len(candidates))
        dreams.branch(state)
        alive = np.ones(len(candidates))
        for step in range(candidates.shape[1]):
            rewards, ends = dreams.imagine(candidates[:, step])
            totals += self.config.gamma**step * alive * rewards
            alive *= 1 - ends
        return totals


@dataclass(frozen=True)
class _Belief:
    """What candidates are drawn from: for each step, probabilities of choices or keys (L, A), or means and standard
    deviations (L, A) of numbers, in standardised units."""

    spec: ActionSpec
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def even(cls, spec: ActionSpec, horizon: int) -> _Belief:
        shape = (horizon, spec.size)
        share = {"discrete": 1 / spec.size, "keys": 0.5, "continuous": 0.0}[spec.kind]
        return cls(spec, np.full(shape, share), np.ones(shape))

    def draw(self, count: int, hold: float, rng: np.random.Generator) -> np.ndarray:
        """Candidates (count, L, ...)."""
        horizon, size = self.mean.shape
        if self.spec.kind == "continuous":
            drawn: np.ndarray = self.mean + self.std * rng.standard_normal((count, horizon, size))
        elif self.spec.kind == "keys":
            drawn = rng.random((count, horizon, size)) < self.mean
        else:
            drawn = (rng.random((count, horizon, 1)) > self.mean.cumsum(-1)).sum(-1).clip(0, size - 1)
        repeated = rng.random((count, horizon)) < hold
        for step in range(1, horizon):
            rows = repeated[:, step]
            drawn[rows, step] = drawn[rows, step - 1]
        if self.spec.kind != "continuous":
            return drawn
        return self.spec.nearest(self.spec.unstandardise(torch.from_numpy(drawn).float())).numpy()

    def fitted(self, elites: np.ndarray) -> _Belief:
        """What made the elites (E, L, ...) likely, never quite certain."""
        if self.spec.kind == "continuous":
            values = self.spec.standardise(torch.from_numpy(elites).double()).numpy()
            return _Belief(self.spec, values.mean(0), values.std(0) + 0.05)
        chosen = elites if self.spec.kind == "keys" else np.eye(self.spec.size)[elites]
        share = chosen.mean(0)
        even = 0.5 if self.spec.kind == "keys" else 1 / self.spec.size
        return _Belief(self.spec, 0.9 * share + 0.1 * even, self.std)
