"""How far the dreamed frames are from the real ones as a crowd, by dreamed frame.

Legend: B clips in a batch, n in all, H horizon, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oneiros.world.evaluation.frechet.network import load_network, pair_features
from oneiros.world.metrics import frechet_distance

_REAL = "real"
_MEASURED = ("sampled", "model", "reconstruction", "copy_last_frame")


class FrechetScores:
    """Features of pairs of frames that follow each other, gathered batch by batch."""

    def __init__(self) -> None:
        self._network = load_network()
        self._features: dict[str, list[Tensor]] = {}

    def add(self, last: Tensor, real: Tensor, dreams: Mapping[str, Tensor]) -> None:
        """last: uint8 (B, 1, h, w, 3), the last frame given; real, dreams: uint8 (B, H, h, w, 3)."""
        for name, frames in {_REAL: real, **{each: dreams[each] for each in _MEASURED}}.items():
            found = pair_features(self._network, torch.cat([last, frames], dim=1))
            self._features.setdefault(name, []).append(found)

    def summary(self, episodes: list[int]) -> dict[str, Any]:
        """`frechet` of metrics.json. episodes: of each clip added."""
        features = {name: torch.cat(parts) for name, parts in self._features.items()}
        real = features.pop(_REAL)
        return {
            "by_frame": {name: _by_frame(dreamed, real) for name, dreamed in features.items()},
            "all": {
                name: frechet_distance(dreamed.flatten(0, 1), real.flatten(0, 1)) for name, dreamed in features.items()
            },
            "standard_error": {name: _error(dreamed, real, episodes) for name, dreamed in features.items()},
        }


def _by_frame(dreamed: Tensor, real: Tensor) -> list[float]:
    """Distances of features (n, H, D), one for each of H."""
    return [frechet_distance(dreamed[:, h], real[:, h]) for h in range(dreamed.shape[1])]


def _error(dreamed: Tensor, real: Tensor, episodes: list[int]) -> list[float] | None:
    """By the jackknife over episodes, each left out once; None where too little would be left."""
    labels = torch.tensor(episodes)
    groups = labels.unique()
    if len(groups) < 2 or min(int((labels != group).sum()) for group in groups) < 2:
        return None
    without = torch.tensor([_by_frame(dreamed[labels != group], real[labels != group]) for group in groups])
    spread = (without - without.mean(0)).square().sum(0)
    return ((len(groups) - 1) / len(groups) * spread).sqrt().tolist()
