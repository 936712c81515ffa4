"""A tiny world whose truth can be read off the screen: a white square on a dark floor, moved by four pixels a step."""

from typing import Any

import numpy as np

from oneiros.records import ActionSpec, Camera
from oneiros.sampling import Sampling
from oneiros.web.game import Game

SIZE, DOT, STEP = 32, 8, 4
NAMES = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_BACKWARD")
MOVES = np.array([(0, -STEP), (0, STEP), (-STEP, 0), (STEP, 0)])  # row and column, by name
KEYS = ActionSpec("keys", NAMES)
DISCRETE = ActionSpec("discrete", ("noop", "left", "right", "up", "down", "up_left"))
CONTINUOUS = ActionSpec(
    "continuous", ("row", "column"), mean=(0.0, 0.0), std=(1.0, 1.0), low=(-4.0, -4.0), high=(4.0, 4.0)
)
MIXED = ActionSpec(  # a key and a mouse
    "continuous",
    ("TURN_LEFT", "column"),
    mean=(0.4, 3.0),
    std=(0.5, 9.0),
    low=(0.0, -30.0),
    high=(1.0, 30.0),
    whole=(True, False),
)
STARTS = ((12, 12), (0, 0), (20, 8))  # row and column of the square's corner
LENGTH = 10_000  # steps of an episode
FPS = 60.0

RGB = Camera("observation.images.front", SIZE, SIZE)
DEPTH = Camera(
    "observation.depth.front", SIZE, SIZE, "depth", fx=16, fy=16, cx=15.5, cy=15.5, depth_min=0.1, depth_max=5.0
)


def draw(place: np.ndarray) -> np.ndarray:
    frame = np.full((SIZE, SIZE, 3), (30, 20, 60), np.uint8)
    rows, columns = ((corner + np.arange(DOT)) % SIZE for corner in place)
    frame[np.ix_(rows, columns)] = 255
    return frame


class Room:
    """As an env and, with `context`, as the real one beside it."""

    def __init__(self, spec: ActionSpec | None, length: int = LENGTH) -> None:
        self.action_spec, self.fps, self.sampling = spec, FPS, Sampling()
        self.length = length
        self.place, self.steps = np.zeros(2, int), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        options = options or {}
        self.place = np.array(options.get("context", STARTS[options.get("start", 0)]))
        self.steps = 0
        return self.render(), {}

    def context(self, *, seed: int) -> Any:
        self.reset(seed=seed)
        return tuple(self.place)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = (self.place + self._move(action)) % SIZE
        self.steps += 1
        return self.render(), 0.0, self.steps == self.length, False, {}

    def render(self) -> np.ndarray:
        return draw(self.place)

    def depth(self) -> np.ndarray:
        return np.where(self.render()[..., 0] == 255, 1.0, 2.0).astype(np.float32)

    def think(self) -> tuple[np.ndarray, dict[str, float] | None]:
        guess = None if self.action_spec is None else {name: 0.25 for name in self.action_spec.names}
        return np.linspace(0, 1, 16).reshape(4, 4), guess

    def snapshot(self) -> Any:
        return self.place.copy(), self.steps

    def restore(self, snapshot: Any) -> None:
        self.place, self.steps = snapshot[0].copy(), snapshot[1]

    def close(self) -> None:
        pass

    def _move(self, action: Any) -> np.ndarray:
        if self.action_spec is None:
            return np.array((0, STEP))
        if self.action_spec.kind == "keys":
            return (MOVES * np.asarray(action)[:, None]).sum(0)
        if self.action_spec.kind == "discrete":
            return np.array([(0, 0), *MOVES, MOVES[0] + MOVES[2]])[action]
        if self.action_spec is MIXED:
            held, column = np.asarray(action)
            return np.array((0, np.rint(column))).astype(int) + (MOVES[2] * int(held))
        return np.rint(action).astype(int)


def game(spec: ActionSpec | None = KEYS, *, length: int = LENGTH, title: str = "a room") -> Game:
    return Game(
        title=title,
        source="test:room",
        make_env=lambda: Room(spec, length),
        make_beside=lambda: Room(spec, 20),
        action_spec=spec,
        fps=FPS,
        cameras=(RGB, DEPTH),
        dreams=True,
        pictures=[draw(np.array(start)) for start in STARTS],
        sampling=Sampling(),
        thoughts=True,
    )
