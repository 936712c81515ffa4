"""What an evaluation of an agent can be asked for. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Plan = Literal["shooting", "cem"]


@dataclass(frozen=True, kw_only=True)
class AgentEvalConfig:
    env: str | None = None
    """The real game, such as doom:take_cover."""
    episodes: int = 100
    """To play in the real game, by each who plays."""
    games: int = 8
    """How many go on together."""
    dreams: int = 32
    """Episodes to dream, from their beginnings: what the dream promises, beside what the game pays. 0 leaves it out."""
    dream_steps: int = 600
    """A dream is cut off after so many steps."""
    temperature: float = 1.0
    """How much chance there is in what is dreamed."""
    likeliest: bool = False
    """Take the likeliest action instead of drawing one."""
    planner: Plan | None = None
    """Let a planner play, too, that dreams what actions would lead to, without training: shooting draws them at random,
    cem looks again around the best."""
    candidates: int = 64
    """How many the planner dreams together."""
    ahead: int = 8
    """Steps that it looks ahead."""
    seed: int = 1_000_000
    """Of games, dreams and actions; training draws from others."""

    def __post_init__(self) -> None:
        for name in ("episodes", "games", "dream_steps", "candidates", "ahead"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.dreams < 0:
            raise ValueError(f"dreams is {self.dreams}; it must be at least 0")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if self.env is None and not self.dreams:
            raise ValueError("there is nowhere to play: name the real game with --env, or leave --dreams above 0")
