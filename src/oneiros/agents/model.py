"""An agent: what it does, and what it expects to earn, from a world's hidden features.

Legend: B batch, F features, A names of actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.nn.attention import check_counts
from oneiros.records import ActionSpec
from oneiros.run_folder import Origin, RunConfig, from_json, load_model, read_config, save_model


@dataclass(frozen=True)
class AgentConfig:
    """num_features: of an observation. width, depth: of the hidden layers of actor and critic."""

    action_spec: ActionSpec
    num_features: int
    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        check_counts({"num_features": self.num_features, "width": self.width})
        check_counts({"depth": self.depth}, most=64)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AgentConfig:
        return from_json(cls, values, "the agent's config")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "action_spec": self.action_spec.to_json()}


class Agent(nn.Module):
    """Actor and critic, each a small network over standardised features.

    Actions are drawn from a categorical distribution (discrete), a coin for each key (keys), or a normal distribution
    in standardised units (continuous), of which the mean is the action that is not drawn.
    """

    kind: ClassVar = "agent"

    def __init__(self, config: AgentConfig) -> None:
        super().__init__()
        self.config = config
        spec = config.action_spec
        self.register_buffer("mean", torch.zeros(config.num_features))
        self.register_buffer("std", torch.ones(config.num_features))
        self.register_buffer("reward_scale", torch.ones(()))
        self.mean: Tensor
        self.std: Tensor
        self.reward_scale: Tensor
        self.actor, self.critic = _network(config, spec.size), _network(config, 1)
        self.log_std = nn.Parameter(torch.zeros(spec.size if spec.kind == "continuous" else 0))

    @torch.no_grad()
    def standardise_by(self, features: Tensor) -> None:
        """Take these observations (B, F) for what usual ones are like."""
        self.mean.copy_(features.mean(0))
        spread = features.std(0) if len(features) > 1 else torch.ones_like(self.std)
        self.std.copy_(torch.where(spread > 1e-4, spread, torch.ones_like(spread)))

    def _entered(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.std).clamp(-10, 10)

    def value(self, features: Tensor) -> Tensor:
        """What the agent expects to earn from here on (B,), in units of `reward_scale`."""
        return self.critic(self._entered(features)).squeeze(-1)

    @torch.no_grad()
    def draw(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions (B, ...) as in `ActionSpec`, drawn at random."""
        scores = self.actor(self._entered(features))
        uniform = torch.rand(scores.shape, generator=generator).clamp(1e-7, 1 - 1e-7)
        match self.config.action_spec.kind:
            case "discrete":
                return (scores.log_softmax(-1) - (-uniform.log()).log()).argmax(-1)
            case "keys":
                return uniform < scores.sigmoid()
            case _:
                normal = torch.randn(scores.shape, generator=generator)
                return self._in_units(scores + normal * self.log_std.exp())

    @torch.no_grad()
    def likeliest(self, features: Tensor) -> Tensor:
        """Likewise, each the likeliest."""
        scores = self.actor(self._entered(features))
        kind = self.config.action_spec.kind
        return scores.argmax(-1) if kind == "discrete" else scores > 0 if kind == "keys" else self._in_units(scores)

    def act(
        self, features: np.ndarray, *, generator: torch.Generator | None = None, likeliest: bool = False
    ) -> np.ndarray:
        """Actions for a vector environment, from its observations (B, F)."""
        observed = torch.from_numpy(features)
        return (self.likeliest(observed) if likeliest else self.draw(observed, generator)).numpy()

    def judge(self, features: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The log-probability of actions, and the entropy of all, each (B,)."""
        scores = self.actor(self._entered(features))
        match self.config.action_spec.kind:
            case "discrete":
                logs = scores.log_softmax(-1)
                return logs.gather(-1, actions[:, None]).squeeze(-1), -(logs.exp() * logs).sum(-1)
            case "keys":
                held, left = F.logsigmoid(scores), F.logsigmoid(-scores)
                share = scores.sigmoid()
                return torch.where(actions, held, left).sum(-1), -(share * held + (1 - share) * left).sum(-1)
            case _:
                spread = self.log_std.exp()
                apart = (self.config.action_spec.standardise(actions) - scores) / spread
                logs = -0.5 * (apart.square() + np.log(2 * np.pi)) - self.log_std
                return logs.sum(-1), (self.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum().expand(len(scores))

    def _in_units(self, values: Tensor) -> Tensor:
        return self.config.action_spec.unstandardise(values)

    def save(self, folder: Path | str, *, recipe: Mapping[str, Any] | None = None, data: Origin | None = None) -> None:
        """Write a run folder that `load` reads back bitwise."""
        save_model(self, folder, self.kind, self.config.to_json(), recipe=recipe, data=data)

    @classmethod
    def load(cls, folder: Path | str, *, config: RunConfig | None = None) -> Agent:
        """The agent of a run folder. Raises ValueError, in one line, for one that holds none or is damaged."""
        config = config or read_config(folder, cls.kind)
        return load_model(folder, config, lambda values: cls(AgentConfig.from_json(values)))


def _network(config: AgentConfig, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = config.num_features
    for _ in range(config.depth):
        layers += [nn.Linear(width, config.width), nn.LayerNorm(config.width), nn.SiLU()]
        width = config.width
    last = nn.Linear(width, out)
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.zero_()
    return nn.Sequential(*layers, last)
