"""How right what was said of rewards and ends is, and whether it was said of the right step.

Legend: S consecutive steps of an episode or a dream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHIFTS = range(-3, 4)
NEAR = 1  # steps that an end may be said too early or too late
_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of probabilities that are looked at together


@dataclass(frozen=True)
class Told:
    """What was expected of consecutive steps, and what came of them: (S,) each.

    reward: float. end: the probability. paid: what was paid, or None where the data does not say. ended: bool,
    likewise. valid: bool, steps whose outcome is known.
    """

    reward: Tensor
    end: Tensor
    paid: Tensor | None
    ended: Tensor | None
    valid: Tensor


def correlation(a: Tensor, b: Tensor) -> float | None:
    """Pearson's, of two (n,); None where one of them is constant."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    spread = (a.square().sum() * b.square().sum()).sqrt()
    return None if len(a) < 2 or spread < 1e-12 else float((a * b).sum() / spread)


def time_shift(said: Sequence[Tensor], came: Sequence[Tensor], valid: Sequence[Tensor]) -> dict[str, Any]:
    """The correlation of what was said of step t with what came of step t + shift, over all sequences (S,) together.

    peak: the shift where it is largest; anything but 0 means that labels and steps do not belong together. None where
    nothing can be correlated, as ends a step late cannot be where episodes are over by then.
    """
    by_shift = []
    for shift in SHIFTS:
        pairs = []
        for says, comes, known in zip(said, came, valid, strict=True):
            first = max(0, -shift)
            last = max(first, min(len(says), len(says) - shift))
            both = known[first:last] & known[first + shift : last + shift]
            pairs.append((says[first:last][both], comes[first + shift : last + shift][both].float()))
        by_shift.append(correlation(*(torch.cat(column) for column in zip(*pairs, strict=True))))
    known = {shift: value for shift, value in zip(SHIFTS, by_shift, strict=True) if value is not None}
    return {"shift": [*SHIFTS], "correlation": by_shift, "peak": max(known, key=known.__getitem__) if known else None}


def end_scores(sequences: Sequence[Told], threshold: float) -> dict[str, Any]:
    """Precision, recall and F1 of the ends that are said where their probability is at least `threshold`; an end that
    is said at most a step too early or too late counts as right. Null where nothing was said, or nothing ended."""
    said_right = said = ended_found = ended = 0
    for each in sequences:
        assert each.ended is not None
        calls, ends = (each.end >= threshold) & each.valid, each.ended & each.valid
        said, ended = said + int(calls.sum()), ended + int(ends.sum())
        said_right += int((calls & _near(ends)).sum())
        ended_found += int((ends & _near(calls)).sum())
    precision, recall = (said_right / said if said else None), (ended_found / ended if ended else None)
    f1 = (
        2 * precision * recall / max(precision + recall, 1e-12)
        if precision is not None and recall is not None
        else None
    )
    return {"threshold": threshold, "precision": precision, "recall": recall, "f1": f1, "ends": ended, "said": said}


def best_threshold(probabilities: Tensor) -> float:
    """From which probability (n,) on an end is best said, for F1, if the probabilities are to be believed: what came is
    not looked at. Where ends are a matter of chance, it is below a half."""
    ordered = probabilities.double().sort(descending=True).values
    f1 = 2 * ordered.cumsum(0) / (ordered.sum() + torch.arange(1, len(ordered) + 1))
    return float(ordered[f1.argmax()]) if len(ordered) else 0.5


def reliability(probabilities: Tensor, ended: Tensor) -> dict[str, list[float]]:
    """Of steps with a similar probability: its mean, the share of them that ended, and how many they are. (n,) each."""
    bins = torch.bucketize(probabilities.double(), torch.tensor(_EDGES[1:-1], dtype=torch.float64), right=True)
    table: dict[str, list[float]] = {"probability": [], "share": [], "steps": []}
    for number in range(len(_EDGES) - 1):
        chosen = bins == number
        if count := int(chosen.sum()):
            table["probability"].append(float(probabilities[chosen].double().mean()))
            table["share"].append(float(ended[chosen].double().mean()))
            table["steps"].append(count)
    return table


def _near(flags: Tensor) -> Tensor:
    """Steps (S,) at most `NEAR` from one that is flagged."""
    near = flags.clone()
    for distance in range(1, NEAR + 1):
        near[distance:] |= flags[:-distance]
        near[:-distance] |= flags[distance:]
    return near
