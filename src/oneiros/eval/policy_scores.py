"""From episodes to figures: who succeeds how often, at what, and how much oftener than others from the same starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from oneiros.eval.success import Z, group_means, paired_difference, rate

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
    told = any(row.success is not None for row in rows)
    by_name = {name: [row for row in rows if row.contender == name] for name, _ in contenders}
    return {
        "measure": "success" if told else "return",
        "tasks": tasks,
        "contenders": [_contender(name, kind, by_name[name], tasks, told) for name, kind in contenders],
        "paired": [
            {"first": contenders[0][0], "second": name, **_paired(by_name[contenders[0][0]], by_name[name], told)}
            for name, kind in contenders[1:]
            if kind in ("policy", "cloning")
        ],
    }


def _contender(name: str, kind: str, rows: Sequence[Row], tasks: Sequence[str], told: bool) -> dict[str, Any]:
    by_task = {task: _figures([row for row in rows if (row.task or ONLY) == task], told) for task in tasks}
    means = {task: figures["rate" if told else "mean"] for task, figures in by_task.items()}
    return {
        "name": name,
        "kind": kind,
        "tasks": by_task,
        "mean": _figures(rows, told),
        "groups": group_means(means) if told else {},
    }


def _figures(rows: Sequence[Row], told: bool) -> dict[str, Any]:
    if told:
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


def _paired(first: Sequence[Row], second: Sequence[Row], told: bool) -> dict[str, Any]:
    other = {(row.task, row.start): row for row in second}
    pairs = [(row, other[row.task, row.start]) for row in first]
    if told:
        return paired_difference([bool(a.success) for a, _ in pairs], [bool(b.success) for _, b in pairs])
    differences = [a.total - b.total for a, b in pairs]
    middle, reach = mean(differences), _reach(differences)
    return {"difference": middle, "low": middle - reach, "high": middle + reach, "pairs": len(pairs)}


def _reach(values: Sequence[float]) -> float:
    """Half the normal interval of a mean."""
    return Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
