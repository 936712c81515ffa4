"""What was played: the frames one can go back to, and enough snapshots to go on from any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_NEAR, _FAR, _RECENT = 16, 128, 64  # a snapshot every 16 frames of the newest 64, every 128 before: they are large


@dataclass(frozen=True)
class Moment:
    """One frame, and how it came about.

    action: what led here, None at the start. sampling: how it was drawn. rgb, side: uint8 (H, W, 3); depth: uint16
    millimetres. over: the episode has ended or been cut off here, terminated: ended; reward: what the action was paid.
    side_over: the real environment's episode has ended. snapshots: of the dream and of the environment.
    """

    rgb: np.ndarray
    depth: np.ndarray | None = None
    action: Any = None
    sampling: Any = None
    over: bool = False
    terminated: bool = False
    reward: float = 0.0
    step_ms: float = 0.0
    side: np.ndarray | None = None
    side_over: bool = False
    snapshots: tuple[Any, Any] | None = None


class History:
    """The newest moments of one branch, `length` at least where there were as many, numbered from the start."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.oldest = 0
        self._moments: list[Moment] = []

    @property
    def newest(self) -> int:
        return self.oldest + len(self._moments) - 1

    def __getitem__(self, frame: int) -> Moment:
        """Raises ValueError for a frame that is not remembered."""
        if not self.oldest <= frame <= self.newest:
            raise ValueError(f"frame {frame} is not remembered; frames {self.oldest} to {self.newest} are")
        return self._moments[frame - self.oldest]

    def span(self, first: int, last: int) -> Iterator[Moment]:
        return (self[frame] for frame in range(first, last + 1))

    def wants_snapshot(self, frame: int) -> bool:
        return frame % _NEAR == 0

    def append(self, moment: Moment) -> None:
        self._moments.append(moment)
        distant = self.newest - _RECENT
        if distant >= self.oldest and distant % _FAR and distant != self.oldest:
            self._moments[distant - self.oldest] = replace(self[distant], snapshots=None)
        self._forget()

    def cut(self, frame: int) -> None:
        """Forget all after this frame."""
        del self._moments[frame - self.oldest + 1 :]

    def snapshot_before(self, frame: int) -> int:
        """The newest frame with a snapshot, up to this one."""
        return next(at for at in range(frame, self.oldest - 1, -1) if self[at].snapshots is not None)

    def _forget(self) -> None:
        """Drop the oldest frames, up to one with a snapshot: whatever is remembered can be gone on from."""
        spare = range(len(self._moments) - self.length, 0, -1)
        kept = next((index for index in spare if self._moments[index].snapshots is not None), 0)
        del self._moments[:kept]
        self.oldest += kept
