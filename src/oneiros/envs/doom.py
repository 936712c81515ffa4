"""ViZDoom as a Gymnasium environment: colour, depth in metres, labels, and keys that can be held together.

Map units become metres by Doom's usual convention: 32 units = 1 m, so that the player, 56 units tall, measures 1.75 m.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import vizdoom as vd
from gymnasium import spaces

from oneiros.data.frames import resize, resize_nearest
from oneiros.envs.doom_engine import Scratch
from oneiros.envs.doom_scenarios import load_scenario
from oneiros.envs.pixel_env import PixelEnv, check_frame_skip, check_size, make_cameras, observation_space
from oneiros.records import ActionSpec, Camera

UNITS_PER_METRE = 32.0
TICS_PER_SECOND = 35

# The class of every pixel in the labels camera, by number. Objects of any other ViZDoom category are "Other".
LABELS = (
    *("Wall", "Floor or ceiling", "Other", "Self", "Player", "Monster", "Weapon", "Ammo", "Health", "Armor", "Key"),
    *("Explosive", "Gore", "SFX"),
)

# ViZDoom keeps its depth in 8 bits, linear in map units. The step follows from the bounds in its viz_depth.cpp
# (120e6 and 358e3 in 16.16 fixed point over 255 steps). Ray casting against the map's lines finds the same step, and
# walls half a step nearer, floors and ceilings half a step farther than this offset (tests/envs/test_doom.py).
_DEPTH_STEP = (120_000_000 - 358_000) / 65_536 / 255
_DEPTH_OFFSET = 11.4
# The software renderer's pixels are 1.2 times taller than wide, as on Doom's 320x200 screens.
_PIXEL_ASPECT = 1.2
_SCREEN_ASPECT = 4 / 3

# 160x120 would save half a millisecond a frame, but its textures flicker and its depth ends at 14 m.
_RENDER_SIZES = {(240, 320): vd.ScreenResolution.RES_320X240, (480, 640): vd.ScreenResolution.RES_640X480}
_HIDDEN = ("hud", "crosshair", "weapon", "decals", "particles", "messages", "screen_flashes", "effects_sprites")
_NUMBER, _ANGLES = "_DELTA", ("TURN_LEFT_RIGHT_DELTA", "LOOK_UP_DOWN_DELTA")  # buttons of a mouse
MOST_DELTA = 30.0  # degrees a step, or speed, where 25 is that of the keys
_POSE = ("CAMERA_POSITION_X", "CAMERA_POSITION_Y", "CAMERA_POSITION_Z", "CAMERA_ANGLE")


def depth_in_metres(buffer: np.ndarray, rows: int) -> np.ndarray:
    """ViZDoom's 8-bit depth buffer -> float32 metres along the optical axis.

    rows: height of the rendered screen; ViZDoom cuts the depth of walls off at 255 * rows / 480, and so does this
    function for everything. At 240 rows metres run from 0.36 to 28.8 in steps of 0.22. Against the geometry of a
    room, 95 % of the rendered pixels were within 0.3 m at every distance (half a step from quantisation, half a step
    from where ViZDoom puts walls and floors).
    """
    units = np.minimum(buffer, 255 * rows // 480) * np.float32(_DEPTH_STEP) + np.float32(_DEPTH_OFFSET)
    return (units / np.float32(UNITS_PER_METRE)).astype(np.float32)


def depth_summary(height: int, width: int) -> str:
    """What the depth of frames of this size means, in a sentence."""
    near, far = _depth_limits(_render_size(height, width)[0])
    return (
        f"{near:.2f} to {far:.1f} m (farther reads as {far:.1f}) in steps of {_DEPTH_STEP / UNITS_PER_METRE:.2f} m, "
        f"from ViZDoom's 8-bit buffer at {UNITS_PER_METRE:.0f} map units a metre"
    )


class DoomEnv(PixelEnv):
    """A scenario of ViZDoom, or one of one's own (the path of its .cfg), seen without weapon and status bar,
    `frame_skip` tics (of 1/35 s) a step.

    Actions are the scenario's buttons, bool (A,), any of them together. Where some take a number (a mouse's, *_DELTA),
    actions are float32 (A,): 0 or 1 for a key, -30 to 30 for a number, which is degrees a step of what turns the view
    (right and down are positive) and the speed of what moves (right and forward are positive, the key's speed is 25).
    Observations, by name:
        observation.images.front  uint8 (height, width, 3), the whole 4:3 view rendered larger and averaged down
        observation.depth.front   float32 (height, width), metres (see `depth_in_metres`), with depth=True
        observation.labels.front  uint16 (height, width), indices of `LABELS`, with labels=True
        observation.state         float32: the camera's x, y, z in metres and yaw in radians (counter-clockwise from
                                  +x), then the scenario's own variables
    Intrinsics count pixel centres as whole numbers. The same seed gives the same episodes.
    ViZDoom draws nothing once an episode is over: the step that ends one returns the last observation once more, the
    very same object.

    An engine that dies is started anew by the next `reset`; until then `step` raises OSError.

    Raises ValueError for a scenario that does not exist or sizes above 480x640.
    """

    def __init__(
        self,
        scenario: str,
        *,
        height: int = 64,
        width: int = 64,
        frame_skip: int = 4,
        seed: int | None = None,
        depth: bool = False,
        labels: bool = False,
    ) -> None:
        check_frame_skip(frame_skip, "tic")
        self._height, self._width = height, width
        self._rows, columns = _render_size(height, width)
        self.frame_skip = frame_skip
        self.fps = max(1, round(TICS_PER_SECOND / frame_skip))
        self.metadata = {**self.metadata, "render_fps": self.fps}
        self._configure = partial(_configure, scenario, _RENDER_SIZES[self._rows, columns], depth=depth, labels=labels)
        self._game = self._configure()
        buttons = tuple(button.name for button in self._game.get_available_buttons())
        self.action_spec = _spec_of(buttons)
        self._per_tic = np.where(np.isin(buttons, _ANGLES), 1 / frame_skip, 1.0)
        variables = [variable.name for variable in self._game.get_available_game_variables()][len(_POSE) :]
        self.state_names = ("x", "y", "z", "yaw", *(name.lower() for name in variables))
        self._scratch = Scratch()
        try:
            self._start()
        except vd.FileDoesNotExistException as error:
            self._scratch.close()
            raise ValueError(f"doom:{scenario} needs a game file that does not come with ViZDoom: {error}") from error
        self.cameras = self._cameras(depth=depth, labels=labels)
        self.action_space = _space_of(self.action_spec)
        self.observation_space = observation_space(self.cameras, self.state_names)
        self._observation: dict[str, np.ndarray] = {}
        super().reset(seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(2**31))
        try:
            self._new_episode(chosen)
        except OSError:  # the engine has died
            self._game.close()
            self._game = self._configure()
            self._start()
            self._new_episode(chosen)
        return self._observation, {}

    def _new_episode(self, seed: int) -> None:
        with _readable_errors():
            self._game.set_seed(seed)
            self._game.new_episode()
            self._observation = self._observe()

    def step(
        self, action: Any, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        held = np.asarray(self.action_spec.done(action), dtype=float)
        if held.shape != (self.action_spec.size,):
            what = "keys" if self.action_spec.kind == "keys" else "keys and numbers"
            raise ValueError(f"an action has {self.action_spec.size} {what}, got shape {held.shape}")
        with _readable_errors():
            reward = self._game.make_action((held * self._per_tic).tolist(), self.frame_skip)
            over = self._game.is_episode_finished()
            timeout = over and self._game.is_episode_timeout_reached()
            if not over:
                self._observation = self._observe()
        return self._observation, reward, over and not timeout, timeout, {}

    def render(self) -> np.ndarray:
        """The newest frame, uint8 (height, width, 3)."""
        return self._observation[self.cameras[0].name]

    def close(self) -> None:
        self._game.close()
        self._scratch.close()

    def _start(self) -> None:
        """Start the engine, which drops its settings into the working directory: give it one of its own."""
        self._game.set_vizdoom_path(self._scratch.launcher(Path(vd.__file__).with_name("vizdoom")))
        with chdir(self._scratch.path), _readable_errors():
            self._game.init()

    def _cameras(self, *, depth: bool, labels: bool) -> tuple[Camera, ...]:
        fov = math.radians(self._game.get_game_variable(vd.GameVariable.CAMERA_FOV))
        half = self._width / 2 / math.tan(fov / 2), self._height / 2 / math.tan(fov / 2)
        return make_cameras(
            "front",
            size=(self._height, self._width),
            focal=(half[0], half[1] * _SCREEN_ASPECT * _PIXEL_ASPECT),
            depth=_depth_limits(self._rows) if depth else None,
            classes=LABELS if labels else (),
        )

    def _observe(self) -> dict[str, np.ndarray]:
        state: Any = self._game.get_state()  # its buffers are None only where they were not asked for
        observation = {"observation.state": _physical(state.game_variables)}
        for camera in self.cameras:
            if camera.kind == "rgb":
                image = resize(state.screen_buffer[None], self._height, self._width, crop=False)[0]
            elif camera.kind == "depth":
                image = depth_in_metres(self._sample(state.depth_buffer), self._rows)
            else:
                image = _classes(self._sample(state.labels_buffer), state.labels)
            observation[camera.name] = image
        return observation

    def _sample(self, buffer: np.ndarray) -> np.ndarray:
        return resize_nearest(buffer[None], self._height, self._width, crop=False)[0]


def _depth_limits(rows: int) -> tuple[float, float]:
    """Nearest and farthest metres a screen of so many rows can tell."""
    near, far = depth_in_metres(np.array([0, 255], np.uint8), rows)
    return float(near), float(far)


def _render_size(height: int, width: int) -> tuple[int, int]:
    """The smallest screen that need not be enlarged: averaging several pixels into one keeps textures calm."""
    check_size(height, width)
    for rows, columns in _RENDER_SIZES:
        if height <= rows and width <= columns:
            return rows, columns
    raise ValueError(f"frames of {height}x{width} pixels (height x width); ViZDoom is rendered up to 480x640 here")


def _configure(scenario: str, resolution: vd.ScreenResolution, *, depth: bool, labels: bool) -> vd.DoomGame:
    game = load_scenario(scenario)
    game.set_mode(vd.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_screen_format(vd.ScreenFormat.RGB24)
    game.set_screen_resolution(resolution)
    for thing in _HIDDEN:
        getattr(game, f"set_render_{thing}")(False)
    for buffer in ("audio", "automap", "notifications"):
        getattr(game, f"set_{buffer}_buffer_enabled")(False)
    game.set_depth_buffer_enabled(depth)
    game.set_labels_buffer_enabled(labels)
    pose = [getattr(vd.GameVariable, name) for name in _POSE]
    game.set_available_game_variables([*pose, *game.get_available_game_variables()])
    return game


def _spec_of(buttons: tuple[str, ...]) -> ActionSpec:
    numbers = [name.endswith(_NUMBER) for name in buttons]
    if not any(numbers):
        return ActionSpec("keys", buttons)
    return ActionSpec(
        "continuous",
        buttons,
        low=tuple(-MOST_DELTA if number else 0.0 for number in numbers),
        high=tuple(MOST_DELTA if number else 1.0 for number in numbers),
        whole=tuple(not number for number in numbers),
    )


def _space_of(spec: ActionSpec) -> spaces.Space[Any]:
    if spec.kind == "keys":
        return spaces.MultiBinary(spec.size)
    return spaces.Box(np.array(spec.low, np.float32), np.array(spec.high, np.float32))


def _classes(buffer: np.ndarray, labels: list[vd.Label]) -> np.ndarray:
    """The labels buffer, whose values change their meaning every frame, as indices of `LABELS`."""
    table = np.full(256, LABELS.index("Other"), np.uint16)
    table[0], table[1] = LABELS.index("Wall"), LABELS.index("Floor or ceiling")
    for label in labels:
        if label.object_category in LABELS:
            table[label.value] = LABELS.index(label.object_category)
    return table[buffer]


def _physical(variables: np.ndarray) -> np.ndarray:
    """Game variables, pose first, with metres and radians instead of map units and degrees."""
    values = np.array(variables, np.float64)
    values[:3] /= UNITS_PER_METRE
    values[3] = np.radians(values[3])
    return values.astype(np.float32)


@contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except (
        vd.ViZDoomUnexpectedExitException,
        vd.ViZDoomErrorException,
        vd.ViZDoomIsNotRunningException,
    ) as error:
        raise OSError(f"the ViZDoom engine has stopped; the next reset starts it anew ({error})") from error
