"""Looking for what is wrong with a dataset, without decoding its videos."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """text: one line. fatal: training would stop here; otherwise it goes on without the episode, or in spite of it."""

    text: str
    fatal: bool = False


@dataclass(frozen=True)
class Check:
    """What was looked at, and what was found wrong."""

    name: str
    problems: tuple[Problem, ...]
