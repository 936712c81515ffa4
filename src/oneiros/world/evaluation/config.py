"""What an evaluation of a world can be told, and what it needs of a set of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from oneiros.records import Clip, Sampling

AGES = (10, 30, 100, 300, 1000)  # frames of a dream after which it is looked at


class ClipSource(Protocol):
    """What evaluation needs of `oneiros.data.episodes.clips.Clips`."""

    def __len__(self) -> int: ...
    def batch(self, indices: Sequence[int]) -> Clip: ...
    def where(self, index: int) -> tuple[int, int]: ...


@dataclass(frozen=True)
class DriftConfig:
    """frames: length of the long dreams, 0 skips drift. dreams: how many side by side. window: how many frames up to
    each age are looked at together."""

    frames: int = 1000
    dreams: int = 4
    window: int = 10

    def __post_init__(self) -> None:
        if self.frames < 0 or self.dreams < 1 or self.window < 2:
            raise ValueError(f"drift needs frames >= 0, dreams >= 1 and window >= 2, got {self}")

    @property
    def ages(self) -> list[int]:
        return [age for age in AGES if age < self.frames] + [self.frames]


@dataclass(frozen=True)
class EvalConfig:
    """clips: how many, drawn without repetition. context, horizon: frames given, frames dreamed. seed: of the choice
    and of every random number. sampling: of the variant `sampled`, of drift and speed. The others draw nothing:
    `likeliest` takes the likeliest code, `model` and `shuffled_actions` the one nearest to the expected vector.
    speed_steps: timed steps of one dream, 0 skips it."""

    clips: int = 256
    context: int = 8
    horizon: int = 16
    seed: int = 0
    batch_size: int = 32
    sampling: Sampling = field(default_factory=Sampling)
    drift: DriftConfig = field(default_factory=DriftConfig)
    speed_steps: int = 300

    def __post_init__(self) -> None:
        for name, least in (("clips", 2), ("context", 1), ("horizon", 1), ("batch_size", 2), ("speed_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; evaluation needs at least {least}")

    @property
    def clip_length(self) -> int:
        return self.context + self.horizon
