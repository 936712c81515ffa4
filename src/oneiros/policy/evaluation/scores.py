"""From episodes to figures: who succeeds how often, at what, and how much oftener than others from the same starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev
from typing import Any

from oneiros.envs.metaworld.tasks import GROUPS, group_of
from oneiros.policy.evaluation.kinds import LEARNED

ONLY = "all"  # what the single task is called of an environment that has no several


@dataclass(frozen=True)
class Row:
    """One episode of one contender; see `rollouts.Outcome`."""

    contender: str
    task: str | None
    start: int
    success: bool | None
    steps: int
    total: float


def scores(contenders: Sequence[tuple[str, str]], rows: Sequence[Row]) -> dict[str, Any]:
    """contenders: (name, kind), the policy first.

    measure: "success", or "return" where the environment does not tell of success. tasks: their names. contenders: of
    each its name, kind, figures by task, over all episodes (`mean`: tasks have equally many, so this is the mean of the
    tasks too), and of groups of tasks. paired: the first against every other run that learned.
    """
    tasks = list(dict.fromkeys(row.task or ONLY for row in rows))
    tells_success = any(row.success is not None for row in rows)
    by_name = {name: [row for row in rows if row.contender == name] for name, _ in contenders}
    return {
        "measure": "success" if tells_success else "return",
        "tasks": tasks,
        "contenders": [_contender(name, kind, by_name[name], tasks, tells_success) for name, kind in contenders],
        "paired": [
            {
                "first": contenders[0][0],
                "second": name,
                **_paired(by_name[contenders[0][0]], by_name[name], tells_success),
            }
            for name, kind in contenders[1:]
            if kind in LEARNED
        ],
    }


def _contender(name: str, kind: str, rows: Sequence[Row], tasks: Sequence[str], tells_success: bool) -> dict[str, Any]:
    by_task = {task: _figures([row for row in rows if (row.task or ONLY) == task], tells_success) for task in tasks}
    means = {task: figures["rate" if tells_success else "mean"] for task, figures in by_task.items()}
    return {
        "name": name,
        "kind": kind,
        "tasks": by_task,
        "mean": _figures(rows, tells_success),
        "groups": group_means(means) if tells_success else {},
    }


def _figures(rows: Sequence[Row], tells_success: bool) -> dict[str, Any]:
    if tells_success:
        return {**rate([bool(row.success) for row in rows]), "steps": mean(row.steps for row in rows)}
    totals = [row.total for row in rows]
    reach = _reach(totals)
    middle = mean(totals)
    return {
        "mean": middle,
        "low": middle - reach,
        "high": middle + reach,
        "episodes": len(rows),
        "steps": mean(row.steps for row in rows),
    }


def _paired(first: Sequence[Row], second: Sequence[Row], tells_success: bool) -> dict[str, Any]:
    other = {(row.task, row.start): row for row in second}
    pairs = [(row, other[row.task, row.start]) for row in first]
    if tells_success:
        return paired_difference([bool(a.success) for a, _ in pairs], [bool(b.success) for _, b in pairs])
    differences = [a.total - b.total for a, b in pairs]
    middle, reach = mean(differences), _reach(differences)
    return {"difference": middle, "low": middle - reach, "high": middle + reach, "pairs": len(pairs)}


def _reach(values: Sequence[float]) -> float:
    """Half the normal interval of a mean."""
    return Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


Z = NormalDist().inv_cdf(0.975)  # of intervals of 95 %


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
