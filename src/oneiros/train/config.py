"""Steps, batch size, learning rate and the like of a training run. Free of torch, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Hyperparameters of a training run.

    steps: optimiser steps of the whole run.
    batch_size: samples of one optimiser step, over all processes and micro-batches.
    accumulate: micro-batches per step and process; the result stays the same, memory shrinks.
    learning_rate: the highest, reached after `warmup_steps`; then a cosine down to `final_lr_fraction` of it.
    weight_decay: of matrices only; vectors (biases, norms, gains) are not decayed.
    clip_norm: gradients longer than this are shortened to it; 0 never shortens.
    ema_decay: of the averaged weights that are saved for use, warmed up from 0; 0 saves the trained weights themselves.
    precision: `auto` takes bf16 where the machine computes it faster, else float32.
    save_every, picture_every, log_every: in steps; 0 means never (the last step is always saved).
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    learning_rate: float = 3e-4
    warmup_steps: int = 100
    final_lr_fraction: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: Precision = "auto"
    seed: int = 0
    save_every: int = 500
    picture_every: int = 500
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if self.precision not in ("auto", "bf16", "float32"):
            raise ValueError(f"precision is {self.precision!r}; choose auto, bf16 or float32")

    def shards(self, rank: int, world_size: int) -> list[range]:
        """Which of a step's samples process `rank` takes, one contiguous range per micro-batch."""
        size, rest = divmod(self.batch_size, world_size * self.accumulate)
        if rest:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {world_size} processes x "
                f"{self.accumulate} micro-batches; choose a multiple of {world_size * self.accumulate}"
            )
        first = rank * self.accumulate
        return [range(i * size, (i + 1) * size) for i in range(first, first + self.accumulate)]
