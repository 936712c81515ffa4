"""What every environment here offers: pictures, a description of its actions, and perhaps tasks and an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from oneiros.records import ActionSpec, Camera

CameraKind = Literal["auto", "ray", "renderer"]


class PixelEnv(gym.Env[Any, Any]):
    """A `gymnasium.Env` that says what it shows and what can be done in it.

    Observations are dicts: an image for each of `cameras` by its name, and "observation.state", float32 (S,), where
    `state_names` has S > 0 names. Actions are arrays as `action_spec` describes them.

    fps: steps a second, rounded. frame_skip: steps of the simulation in one step. tasks: their ids, where there are
    several; `reset` takes one as options={"task": id}. task: the current one's instruction, empty where there is none.
    has_expert: whether `expert_action` knows what to do. camera_kind: what draws it, None where that is no choice.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own convention
    render_mode = "rgb_array"
    action_spec: ActionSpec
    cameras: tuple[Camera, ...]
    fps: int
    state_names: tuple[str, ...] = ()
    frame_skip: int = 1
    tasks: tuple[str, ...] = ()
    task: str = ""
    has_expert: bool = False
    camera_kind: CameraKind | None = None

    def step(
        self, action: Any, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step, `frame_skip` of the simulation. Returns what Gymnasium's `step` does.

        observe=False: nobody will look at the images, so they may stay those of the previous observation.
        """
        raise NotImplementedError

    def render(self) -> np.ndarray:
        """The newest frame, uint8 (height, width, 3)."""
        raise NotImplementedError

    def expert_action(self) -> np.ndarray:
        """What the environment's own script, which may see more than is shown, would do now."""
        raise ValueError(f"{type(self).__name__} has no expert")


def succeeded(info: Mapping[str, Any]) -> bool | None:
    """Whether a step reached success, by its info; None where that does not say."""
    for name in ("success", "is_success"):
        if name in info:
            return bool(info[name])
    return None


def check_size(height: int, width: int) -> None:
    """Raises ValueError for frames without pixels."""
    if height < 1 or width < 1:
        raise ValueError(f"frames of {height}x{width} pixels; both sides must be at least 1")


def check_frame_skip(frame_skip: int, unit: str) -> None:
    """Raises ValueError below 1. unit: what is skipped."""
    if frame_skip < 1:
        raise ValueError(f"frame skip is {frame_skip}; a step lasts at least 1 {unit}")


def make_cameras(
    name: str,
    *,
    size: tuple[int, int],
    focal: tuple[float, float],
    depth: tuple[float, float] | None,
    classes: tuple[str, ...],
) -> tuple[Camera, ...]:
    """One view in colour, then in depth and in labels where these are given.

    size: height and width in pixels. focal: fx and fy in pixels; pixel centres are whole numbers. depth: nearest and
    farthest metres. classes: what the labels mean.
    """
    (height, width), (fx, fy) = size, focal
    view = {"height": height, "width": width, "fx": fx, "fy": fy, "cx": (width - 1) / 2, "cy": (height - 1) / 2}
    cameras = [Camera(f"observation.images.{name}", **view)]
    if depth:
        near, far = depth
        cameras.append(Camera(f"observation.depth.{name}", kind="depth", **view, depth_min=near, depth_max=far))
    if classes:
        cameras.append(Camera(f"observation.labels.{name}", kind="labels", **view, classes=classes))
    return tuple(cameras)


def observation_space(cameras: Sequence[Camera], state_names: Sequence[str]) -> spaces.Dict:
    """The space of observations with these images and, where it has names, this state."""
    observed: dict[str, spaces.Space[Any]] = {camera.name: _space(camera) for camera in cameras}
    if state_names:
        observed["observation.state"] = spaces.Box(-np.inf, np.inf, (len(state_names),), np.float32)
    return spaces.Dict(observed)


def _space(camera: Camera) -> spaces.Box:
    size = (camera.height, camera.width)
    if camera.kind == "rgb":
        return spaces.Box(0, 255, (*size, 3), np.uint8)
    if camera.kind == "depth":
        return spaces.Box(camera.depth_min, camera.depth_max, size, np.float32)
    return spaces.Box(0, len(camera.classes) - 1, size, np.uint16)
