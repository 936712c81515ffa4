"""How dreams are drawn from what a world expects. Free of torch, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sampling:
    """How the next code is drawn from its logits: guidance, then min-p and top-k, then temperature, then a draw.

    temperature: 0 draws nothing at random and takes the `estimate`.
    estimate: at temperature 0, `mode` takes the likeliest code, `mean` the code nearest to the expected vector. Where
        codes lie dense the likeliest is a poor guess: many near-equal codes share what a flat one has alone.
    min_p: keep codes at least this fraction as likely as the likeliest (arXiv 2407.01082); 0 keeps all.
    top_k: keep this many; None keeps all.
    guidance_scale: 1 is off; above it, actions are obeyed more strictly (arXiv 2410.02416).
    parallel_keep_fraction: how much of the guidance parallel to the conditional logits is kept.
    """

    temperature: float = 0.7
    min_p: float = 0.1
    top_k: int | None = None
    guidance_scale: float = 1.0
    parallel_keep_fraction: float = 0.0
    estimate: Literal["mode", "mean"] = "mode"

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (no chance) or more")
        if self.estimate not in ("mode", "mean"):
            raise ValueError(f"estimate is {self.estimate!r}; choose mode or mean")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must lie in [0, 1]")
        if not 0 <= self.parallel_keep_fraction <= 1:
            raise ValueError(f"parallel_keep_fraction is {self.parallel_keep_fraction}; it must lie in [0, 1]")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1, or None to keep all")
