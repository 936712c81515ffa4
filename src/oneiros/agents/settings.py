"""What `oneiros train agent` can be told. Free of torch, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from oneiros.train.settings import recipe_of, settings_of_run


@dataclass(frozen=True)
class LearningConfig:
    """How an agent learns from what it is paid."""

    horizon: int = 16
    """Steps of a piece that is learned from; the critic says what comes after it."""

    gamma: float = 0.99
    """What the next step's reward is worth beside this one's."""

    return_lambda: float = 0.95
    """How far returns look ahead before the critic's word is taken: 0 one step, 1 to the end of a piece."""

    entropy: float = 0.003
    """What it is worth not to know yet what to do: more explores longer."""

    lr: float = 3e-4
    """Learning rate."""

    epochs: int = 4
    """How often each piece is learned from."""

    batches: int = 4
    """Into how many parts each epoch divides it."""

    clip: float = 0.2
    """How far an action's probability may move in one piece: to 1 - clip or 1 + clip times what it was."""

    clip_norm: float = 0.5
    """The largest norm of a gradient."""

    def __post_init__(self) -> None:
        for name in ("horizon", "epochs", "batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("gamma", "return_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name in ("lr", "clip", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.entropy < 0:
            raise ValueError(f"entropy is {self.entropy}; it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """Learn to play inside a world's dreams; with --rounds also to make the world better where the agent goes.

    An agent sees the world's hidden state, never a picture, so nothing is decoded. Dreams begin at recorded moments.
    """

    world: Annotated[Path, tyro.conf.Positional]
    """The run folder of a world that learned rewards or ends."""

    out: Path
    """The run folder to write: config.json, model.safetensors, state.pt, metrics.jsonl, report.html, films, and a copy
    of the world in world/."""

    data: Path | None = None
    """The dataset at whose moments dreams begin. Default: the one that the world learned from."""

    env: str | None = None
    """The real game, such as doom:basic: filmed and tried at the end, and played in --rounds."""

    steps: int = 200_000
    """Frames to dream, all dreams together; in every round."""

    dreams: int = 64
    """How many go on together."""

    max_steps: int = 60
    """A dream is cut off after so many steps: the longer, the farther from what was recorded."""

    temperature: float = 1.0
    """How much chance there is in frames and ends. Below 1 a dream is tamer than the game, and agents learn what only
    the dream allows."""

    learning: tyro.conf.OmitArgPrefixes[LearningConfig] = field(default_factory=LearningConfig)

    width: int = 256
    """Of the hidden layers of actor and critic."""

    rounds: int = 0
    """How often to record the agent in --env, to train the world on with that, then the agent."""

    episodes: int = 20
    """To record in each round."""

    world_steps: int = 500
    """Of the world's training in each round."""

    recent: float = 0.5
    """The share of the world's training clips in each round that comes from what its agents recorded."""

    real: bool = False
    """Learn in --env itself, in --games at once, instead of in dreams: what dreams are to be compared with. --steps
    are the game's then."""

    games: int = 8
    """How many real games go on together."""

    seed: int = 0
    """Of the first weights and of everything drawn."""

    save_every: int = 20
    """Pieces between checkpoints."""

    resume: bool = False
    """Go on with the run in --out, after Ctrl-C or anything worse. Settings not given are that run's."""

    def checked(self) -> Self:
        """Itself. Raises ValueError, in one line, for what cannot be."""
        for name in ("steps", "dreams", "max_steps", "width", "episodes", "world_steps", "games", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.rounds < 0:
            raise ValueError(f"--rounds is {self.rounds}; it must be at least 0")
        if (self.rounds or self.real) and self.env is None:
            raise ValueError("--rounds and --real play the real game; say which, such as --env doom:basic")
        if self.rounds and self.real:
            raise ValueError("--real learns without dreams, so there is no world to make better; leave out --rounds")
        if not self.temperature > 0:
            raise ValueError(f"--temperature is {self.temperature}; it must be above 0")
        if not 0 <= self.recent <= 1:
            raise ValueError(f"--recent is {self.recent}; it must lie in [0, 1]")
        return self

    @property
    def model(self) -> Mapping[str, Any]:
        """Fields of a model's config set on the command line: an agent has none."""
        return {}

    def to_json(self) -> dict[str, Any]:
        return recipe_of(self) | {"learning": vars(self.learning).copy()}

    def begun_with(self) -> AgentSettings | None:
        """The settings that the run to resume began with; None where there is none. ValueError for damaged ones."""
        return settings_of_run(AgentSettings, self.out, kind="agent") if self.resume else None
