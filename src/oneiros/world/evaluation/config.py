"""The options of a world's evaluation, and what it needs of a set of clips. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

import tyro

from oneiros.sampling import Sampling

if TYPE_CHECKING:
    from oneiros.records import Clip

AGES = (10, 30, 100, 300, 1000)  # frames of a dream after which it is looked at


class ClipSource(Protocol):
    """What evaluation needs of `oneiros.data.episodes.clips.Clips`."""

    def __len__(self) -> int: ...
    def batch(self, indices: Sequence[int]) -> Clip: ...
    def where(self, index: int) -> tuple[int, int]: ...


@dataclass(frozen=True)
class DriftConfig:
    frames: Annotated[int, tyro.conf.arg(name="drift")] = 1000
    """Length of the long dreams in frames; 0 leaves them out."""
    dreams: Annotated[int, tyro.conf.arg(name="drift-dreams")] = 4
    """How many long dreams, side by side."""
    window: tyro.conf.Suppress[int] = 10
    """How many frames up to each age are looked at together."""

    @property
    def ages(self) -> list[int]:
        return [age for age in AGES if age < self.frames] + [self.frames]


@dataclass(frozen=True)
class ThingsConfig:
    kinds: Annotated[tuple[str, ...], tyro.conf.arg(name="things")] = ()
    """Classes of the label images that are things, such as Health Ammo. Default: those that cover at most a tenth of
    the frames they are in, on average."""
    steps: Annotated[int, tyro.conf.arg(name="things-steps")] = 400
    """How long the network learns that looks for things, where the dataset has label images (400: half a minute); 0
    leaves it out."""


@dataclass(frozen=True)
class EvalConfig:
    clips: int = 256
    """How many clips, drawn without repetition."""
    context: int = 8
    """Real frames that each dream is given."""
    horizon: int = 16
    """Frames that each dream goes on."""
    seed: int = 0
    """Of the choice of clips and of every random number: the same seed gives the same figures, speed apart."""
    batch_size: int = 32
    """Clips dreamed at once."""
    sampling: tyro.conf.Suppress[Sampling] = field(default_factory=Sampling)
    """Of the variant `sampled`, of drift and speed. The others draw nothing: `likeliest` takes the likeliest code,
    `model` and `shuffled_actions` the one nearest to the expected vector."""
    drift: DriftConfig = field(default_factory=DriftConfig)
    things: ThingsConfig = field(default_factory=ThingsConfig)
    speed_steps: int = 300
    """How many steps of a single dream are timed; 0 leaves it out."""
    float32: bool = False
    """Leave bf16 alone where this machine multiplies it faster, as most machines do not: their figures."""

    def __post_init__(self) -> None:
        for name, least in (("clips", 2), ("context", 1), ("horizon", 1), ("batch_size", 2), ("speed_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; evaluation needs at least {least}")
        if self.drift.frames < 0 or self.drift.dreams < 1 or self.drift.window < 2:
            raise ValueError(f"drift needs frames >= 0, dreams >= 1 and window >= 2, got {self.drift}")
        if self.things.steps < 0:
            raise ValueError(f"things_steps is {self.things.steps}; it must be 0 (none) or more")

    @property
    def clip_length(self) -> int:
        return self.context + self.horizon
