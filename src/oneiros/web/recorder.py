"""What was played, saved as episodes of a LeRobot dataset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from oneiros.web.game import Game
from oneiros.web.history import Moment

if TYPE_CHECKING:
    from oneiros.data.episodes.writer import DatasetWriter


class Recorder:
    """One dataset for all sessions, made when the first of them records. Each episode is written whole."""

    def __init__(self, path: Path, game: Game) -> None:
        self.path, self._game = path, game
        self._writer: DatasetWriter | None = None
        self._lock = Lock()

    @property
    def num_episodes(self) -> int:
        return self._writer.num_episodes if self._writer else 0

    def prepare(self) -> None:
        """Open the folder. Raises ValueError where it holds something else, OSError where it cannot be written."""
        from oneiros.data.episodes.writer import DatasetWriter

        with self._lock:
            game = self._game
            self._writer = self._writer or DatasetWriter.of(
                game, self.path, outcomes=game.outcomes, robot_type=game.source
            )

    def save(self, moments: Sequence[Moment]) -> None:
        """Append an episode: row t holds what was seen, the action that led to the next, and what came of it."""
        assert self._writer is not None
        with self._lock, self._writer.episode(task=f"play {self._game.title}") as episode:
            for moment, after in zip_longest(moments, moments[1:]):
                episode.add(images=self._images(moment), **self._done(after))

    def close(self) -> None:
        with self._lock:  # waits for an episode that is being saved
            if self._writer is not None:
                self._writer.close()

    def _done(self, after: Moment | None) -> dict[str, Any]:
        """What was done to come to a moment, and what came of it; nothing after the last."""
        if after is None:
            return {"action": None}
        spec, cut = self._game.action_spec, after.over and not after.terminated
        action = spec.done(after.action) if spec else None
        return {"action": action, "reward": after.reward, "terminated": after.terminated, "truncated": cut}

    def _images(self, moment: Moment) -> dict[str, Any]:
        images: dict[str, Any] = {self._game.cameras[0].name: moment.rgb}
        if self._game.depth_camera is not None:
            assert moment.depth is not None
            images[self._game.depth_camera.name] = moment.depth.astype(np.float32) / 1000
        return images
