"""What is imported: episodes whose rows are made one at a time, so that memory does not grow with the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oneiros.records import ActionSpec, Camera, Outcomes


@dataclass(frozen=True)
class ImportedEpisode:
    """One episode of a source.

    name: of it in the source, always the same. images: makes the frames in order, by camera: uint8 (H, W, 3), depth in
    metres or labels. actions: makes one for each row, (T,) or (T, A), or fewer by one; None where there are none.
    state: (T, S) or None. outcomes: of the steps of the actions (T,), or None. confidence: of each row's action, (T,);
    None = 1, or 0 where there are no actions. All are called when the episode is written, and raise ValueError or
    OSError then. film: whose frames, all of them, are those of the only camera.
    """

    name: str
    task: str
    length: int
    images: Callable[[], Iterator[Mapping[str, np.ndarray]]]
    actions: Callable[[], np.ndarray] | None = None
    state: Callable[[], np.ndarray] | None = None
    outcomes: Callable[[], Outcomes] | None = None
    confidence: Callable[[], np.ndarray] | None = None
    film: Path | None = None


@dataclass(frozen=True)
class Source:
    """Episodes of one kind. unusable: by name, why an episode cannot be imported. robot_type: what the source says.
    outcomes: whether episodes have them. partly: not all actions are known."""

    kind: str
    fps: int
    cameras: tuple[Camera, ...]
    action_spec: ActionSpec | None
    state_names: tuple[str, ...]
    recordings: tuple[ImportedEpisode, ...]
    unusable: Mapping[str, str]
    robot_type: str = "unknown"
    outcomes: bool = False
    partly: bool = False


@dataclass(frozen=True)
class Options:
    """What the user said of a source; None and empty: what the source says.

    fps: frames a second. actions: columns, by name. task: of every episode. unlabelled: also take films without a table
    of actions, where others have one.
    """

    fps: int | None = None
    actions: tuple[str, ...] = ()
    task: str | None = None
    unlabelled: bool = False


def numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i}" for i in range(count))


def continuous(size: int) -> ActionSpec:
    """Numbers without bounds, named by their place."""
    return ActionSpec("continuous", numbered("action", size))
