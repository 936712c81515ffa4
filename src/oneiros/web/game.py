"""What is played: all that the server knows of worlds and environments, loaded while the page is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from oneiros.web.messages import SAMPLING

if TYPE_CHECKING:
    from oneiros.records import ActionSpec, Camera
    from oneiros.sampling import Sampling

KEPT_BYTES, MOST_KEPT = 64 * 2**20, 2000  # of the frames one can go back to, for each session


class Playable(Protocol):
    """A `gymnasium.Env` that can be put back to where it was.

    `depth` is float32 (H, W) in metres, or None. A `snapshot` stays valid whatever is done afterwards.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]: ...

    def render(self) -> np.ndarray | None: ...

    def depth(self) -> np.ndarray | None: ...

    def snapshot(self) -> Any: ...

    def restore(self, snapshot: Any) -> None: ...

    def close(self) -> None: ...


class PlayableBeside(Playable, Protocol):
    """The real environment that a dream imitates. `context` begins an episode and returns what the dream's `reset`
    takes as options={"context": ...} to begin in the same place."""

    def context(self, *, seed: int) -> Any: ...


@dataclass(frozen=True)
class Game:
    """What is played, and how its envs are made.

    title: for the page. source: what it was made from, for the datasets that are recorded.
    make_env: an env for one session; all of them run in one thread where they share a model (`dreams`).
    make_beside: the real environment beside a dream, None where there is none.
    pictures: the last frame of each start, uint8 (H, W, 3); none where starts cannot be chosen.
    cameras: the colour camera, and that of depth where frames have depth.
    prepare: called once before anyone plays, in the thread of the envs; may set up the whole process for them.
    sampling: how dreams are drawn at first. thoughts: whether envs have `think`. outcomes: whether steps pay, or end an
    episode, so that recordings keep it.
    """

    title: str
    source: str
    make_env: Callable[[], Playable]
    action_spec: ActionSpec | None
    fps: float
    cameras: Sequence[Camera]
    dreams: bool = False
    make_beside: Callable[[], PlayableBeside] | None = None
    prepare: Callable[[], None] = lambda: None
    pictures: Sequence[np.ndarray] = ()
    sampling: Sampling | None = None
    thoughts: bool = False
    outcomes: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        """None: what is played is recorded in pictures and actions alone."""
        return ()

    @property
    def depth_camera(self) -> Camera | None:
        return next((camera for camera in self.cameras if camera.kind == "depth"), None)

    @property
    def max_rewind(self) -> int:
        """How many frames a session remembers."""
        pixels = self.cameras[0].height * self.cameras[0].width
        return min(MOST_KEPT, max(100, KEPT_BYTES // (pixels * (8 if self.depth_camera else 6))))

    def info(self) -> dict[str, Any]:
        """The game as the page reads it, in JSON's types."""
        depth, sampling = self.depth_camera, self.sampling
        names = ("depth_min", "depth_max", "fx", "fy", "cx", "cy")
        return {
            "title": self.title,
            "kind": "dream" if self.dreams else "env",
            "beside": self.make_beside is not None,
            "width": self.cameras[0].width,
            "height": self.cameras[0].height,
            "channels": 4 if depth else 3,
            "fps": self.fps,
            "action_spec": self.action_spec.to_json() if self.action_spec else None,
            "num_starts": len(self.pictures),
            "depth": {name.removeprefix("depth_"): getattr(depth, name) for name in names} if depth else None,
            "sampling": {name: getattr(sampling, name) for name in SAMPLING} if sampling else None,
            "thoughts": self.thoughts,
            "max_rewind": self.max_rewind,
        }
