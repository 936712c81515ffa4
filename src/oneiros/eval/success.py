"""Shares of episodes that succeed: their intervals, differences over the same starts, and groups of tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

Z = NormalDist().inv_cdf(0.975)  # of intervals of 95 %

# The groups of Meta-World's 50 tasks of Seo et al. (Masked World Models for Visual Control, arXiv 2206.14244), in which
# 3D Diffusion Policy (arXiv 2403.03954) and others report. Video Prediction Policy (arXiv 2412.14803) reports 28, 11
# and 11 tasks: its "hard" are the last two together.
_MEDIUM = (
    "basketball bin-picking box-close coffee-pull coffee-push hammer peg-insert-side push-wall soccer sweep sweep-into"
)
_HARD = "assembly hand-insert pick-out-of-hole pick-place push push-back"
_VERY_HARD = "disassemble pick-place-wall shelf-place stick-pull stick-push"
_EASY = (
    "button-press button-press-topdown button-press-topdown-wall button-press-wall coffee-button dial-turn door-close "
    "door-lock door-open door-unlock drawer-close drawer-open faucet-close faucet-open handle-press handle-press-side "
    "handle-pull handle-pull-side lever-pull peg-unplug-side plate-slide plate-slide-back plate-slide-back-side "
    "plate-slide-side reach reach-wall window-close window-open"
)
GROUPS = {
    "easy": tuple(_EASY.split()),
    "medium": tuple(_MEDIUM.split()),
    "hard": tuple(_HARD.split()),
    "very hard": tuple(_VERY_HARD.split()),
}


def group_of(task: str) -> str | None:
    """The group of a Meta-World task such as drawer-open-v3; None for anything else."""
    stem, _, version = task.rpartition("-v")
    name = stem if version.isdigit() else task
    return next((group for group, names in GROUPS.items() if name in names), None)


def wilson(successes: int, trials: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927): it stays within 0 and 1, and is honest at both ends."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no share")
    share, shrink = successes / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / shrink
    reach = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired_difference(first: Sequence[bool], second: Sequence[bool], z: float = Z) -> dict[str, Any]:
    """How much oftener `first` succeeds than `second`, episode i of both from the same start.

    low, high: Wald's interval of a paired difference with half an episode added to each of the four outcomes (Agresti
    and Min 2005, Statistics in Medicine 24), which keeps it honest where the two hardly ever differ. p: two-sided, of
    McNemar's exact test. won, lost: starts from which only the first, or only the second, succeeds.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} episodes make no pairs")
    won = sum(a and not b for a, b in zip(first, second, strict=True))
    lost = sum(b and not a for a, b in zip(first, second, strict=True))
    count, more, less = len(first) + 2, won + 0.5, lost + 0.5
    middle = (more - less) / count
    reach = z * math.sqrt(more + less - (more - less) ** 2 / count) / count
    return {
        "difference": (won - lost) / len(first),
        "low": max(-1.0, middle - reach),
        "high": min(1.0, middle + reach),
        "won": won,
        "lost": lost,
        "p": _mcnemar(won, lost),
        "pairs": len(first),
    }


def _mcnemar(won: int, lost: int) -> float:
    """How probable it is that a fair coin parts so many starts at least as unevenly."""
    trials = won + lost
    tail = sum(math.comb(trials, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**trials)


def rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    """The share of True with its interval."""
    low, high = wilson(sum(outcomes), len(outcomes))
    return {
        "rate": sum(outcomes) / len(outcomes),
        "low": low,
        "high": high,
        "successes": sum(outcomes),
        "episodes": len(outcomes),
    }


def group_means(rates: Mapping[str, float]) -> dict[str, float]:
    """Mean over the tasks of each group that has any; tasks without a group are left out."""
    members: dict[str, list[float]] = {}
    for group in GROUPS:
        members[group] = [value for task, value in rates.items() if group_of(task) == group]
    return {group: sum(values) / len(values) for group, values in members.items() if values}
