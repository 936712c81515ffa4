"""What episodes paid in all, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oneiros.data.episodes.dataset import Dataset

Kind = Literal["ended", "truncated", "open"]
KINDS: tuple[Kind, ...] = ("ended", "truncated", "open")


@dataclass(frozen=True)
class Ending:
    """Of one episode. kind: ended by the environment, truncated, or open, where the data does not say that it is over.
    total: the sum of its rewards, None where none were recorded."""

    episode: int
    kind: Kind
    total: float | None


def find_endings(dataset: Dataset) -> list[Ending]:
    """Of every episode; of none, where neither rewards nor ends were recorded. Raises ValueError for outcomes that are
    no numbers."""
    found = []
    for episode in dataset.episodes:
        outcomes = dataset.outcomes(episode.index)
        if outcomes is None:
            continue
        flags = {"ended": outcomes.terminated, "truncated": outcomes.truncated}
        kind = next((kind for kind, flag in flags.items() if flag is not None and bool(flag.any())), "open")
        rewards = outcomes.reward
        found.append(Ending(episode.index, kind, None if rewards is None else float(rewards.double().sum())))  # type: ignore[arg-type]
    return found
