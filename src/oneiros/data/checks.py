"""What a check of a dataset or a cloud finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something wrong.

    text: one line. fatal: training would stop here; otherwise it goes on without the episode, or in spite of it.
    """

    text: str
    fatal: bool = False


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what is wrong with it.

    note: what cannot be told, or is to be known although nothing is wrong.
    """

    name: str
    problems: tuple[Problem, ...]
    note: str = ""
