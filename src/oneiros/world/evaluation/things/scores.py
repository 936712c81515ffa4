"""How many of the real frame's things a dream shows at the right place.

Legend: B clips in a batch, n in all, H horizon, h x w pixels, S sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.world.evaluation.certainty import clustered_error, ratio_of_sums
from oneiros.world.evaluation.things.instances import Instances, instances, matches
from oneiros.world.evaluation.things.judge import Judge
from oneiros.world.evaluation.things.network import see

SIZES = ("small", "medium", "large")
LEAST, MEDIUM, LARGE = 6, 16, 64  # pixels of a frame of 64 x 64 from which on a thing counts, is medium, is large
_JUDGED = ("sampled", "model", "reconstruction", "copy_last_frame")
_SEEN = 0.5  # of the network's F1 on real frames, for its word to be taken
REAL = "real"  # the network on the real frames: its own ceiling


class ThingScores:
    """Things found, missed and invented, gathered batch by batch. stride: rows from one frame to the next."""

    def __init__(self, judge: Judge, *, context: int, stride: int) -> None:
        self._judge, self._context, self._stride = judge, context, stride
        self._hits: dict[str, list[Tensor]] = {}
        self._wrong: dict[str, list[Tensor]] = {}
        self._counts: list[Tensor] = []

    def add(self, where: Sequence[tuple[int, int]], real: Tensor, dreams: Mapping[str, Tensor]) -> None:
        """where: episode and first row of each clip. real, dreams: uint8 (B, H, h, w, 3), dreams by variant."""
        batch, horizon = real.shape[:2]
        truth = self.truth(where, horizon)
        least = smallest(*real.shape[2:4])
        true = instances(truth.flatten(0, 1), least=max(1, least // 2))
        for name, frames in {REAL: real, **{each: dreams[each] for each in _JUDGED}}.items():
            copied = name == "copy_last_frame"
            kinds = see(self._judge.network, (frames[:, :1] if copied else frames).flatten(0, 1))
            kinds = kinds.unflatten(0, (batch, -1)).expand(batch, horizon, -1, -1).flatten(0, 1)
            shown = instances(kinds, least=max(1, least // 2))
            hits, wrong = compare(true, shown, frames=batch * horizon, size=real.shape[2:4])
            self._hits.setdefault(name, []).append(hits.view(batch, horizon, len(SIZES)))
            self._wrong.setdefault(name, []).append(wrong.view(batch, horizon, len(SIZES)))
        counted = sized(true, torch.arange(len(true.area)), batch * horizon, real.shape[2:4])
        self._counts.append(counted.view(batch, horizon, len(SIZES)))

    def truth(self, where: Sequence[tuple[int, int]], horizon: int) -> Tensor:
        """The kind of thing at each pixel of the dreamed frames' real ones: uint8 (B, H, h, w)."""
        kinds = [
            self._judge.kinds[episode][row + self._context * self._stride :: self._stride][:horizon]
            for episode, row in where
        ]
        return torch.from_numpy(np.stack(kinds))

    def summary(self, episodes: list[int]) -> dict[str, Any]:
        """`things` of metrics.json; "left_out", and why, where they cannot be told. episodes: of each clip added."""
        hits, wrong = ({name: torch.cat(parts) for name, parts in each.items()} for each in (self._hits, self._wrong))
        seen = _total_f1(hits[REAL], wrong[REAL])
        if seen is None or seen < _SEEN:
            names, how_well = ", ".join(self._judge.names), "there is none" if seen is None else f"F1 {seen:.2f}"
            return {"left_out": f"on real frames, the network that looks for {names} finds too little ({how_well})"}
        f1 = {name: _f1(hits[name].sum(-1), wrong[name].sum(-1)) for name in hits}
        counts = torch.cat(self._counts)
        by_size = {
            size: {
                "things": int(counts[..., place].sum()),
                **{name: _total_f1(hits[name][..., place], wrong[name][..., place]) for name in hits},
            }
            for place, size in enumerate(SIZES)
        }
        return {
            "kinds": list(self._judge.names),
            "learned_from": self._judge.frames,
            "per_frame": counts.sum(-1).mean(0).tolist(),
            "f1": {name: values.mean(0).tolist() for name, values in f1.items()},
            "by_size": by_size,
            "standard_error": {name: clustered_error(values, episodes) for name, values in f1.items()},
        }


def smallest(height: int, width: int) -> int:
    """Pixels from which on a thing counts in frames of this size."""
    return max(1, round(LEAST * height * width / 64**2))


def compare(true: Instances, shown: Instances, *, frames: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Things found, and things missed or invented: float (frames, S) each.

    A thing too small to count is no miss, whoever shows it invents nothing, and half the size is enough to be found.
    """
    pairs = matches(true, shown, width=size[1])
    found = torch.tensor([place for place, _ in pairs], dtype=torch.int64)
    taken = torch.zeros(len(shown.area), dtype=torch.bool)
    taken[[other for _, other in pairs]] = True
    missed = torch.ones(len(true.area), dtype=torch.bool)
    missed[found] = False
    wrong = sized(true, missed.nonzero()[:, 0], frames, size) + sized(shown, (~taken).nonzero()[:, 0], frames, size)
    return sized(true, found, frames, size), wrong


def sized(things: Instances, which: Tensor, frames: int, size: Sequence[int]) -> Tensor:
    """How many of these things each frame has by size, those that count alone: float (frames, S)."""
    area = things.area[which] * 64**2 / (size[0] * size[1])
    counts = torch.zeros(frames, len(SIZES))
    for place, (low, high) in enumerate(((LEAST, MEDIUM), (MEDIUM, LARGE), (LARGE, float("inf")))):
        frame = things.frame[which][(area >= low) & (area < high)]
        counts[:, place] = torch.bincount(frame, minlength=frames)
    return counts


def _f1(hits: Tensor, wrong: Tensor) -> Tensor:
    return ratio_of_sums(2 * hits, 2 * hits + wrong)


def _total_f1(hits: Tensor, wrong: Tensor) -> float | None:
    both = (2 * hits + wrong).sum().item()
    return 2 * hits.sum().item() / both if both else None
