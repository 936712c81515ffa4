"""Environments by name, all with one face for the recorder and the player."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from oneiros.records import ActionSpec, Camera

CameraKind = Literal["auto", "ray", "renderer"]


class PixelEnv(Protocol):
    """A `gymnasium.Env` that says what it shows and what can be done in it.

    Observations are dicts: an image for each of `cameras` by its name, and "observation.state", float32 (S,), where
    `state_names` has S > 0 names. fps: steps a second, rounded. Actions are arrays as `ActionSpec` describes them.
    """

    action_spec: ActionSpec
    cameras: tuple[Camera, ...]
    fps: int
    state_names: tuple[str, ...]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]: ...

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]: ...

    def render(self) -> np.ndarray: ...

    def close(self) -> None: ...


def make_env(
    name: str,
    *,
    height: int = 64,
    width: int = 64,
    frame_skip: int | None = None,
    seed: int | None = None,
    depth: bool = False,
    labels: bool = False,
    camera: CameraKind = "auto",
) -> PixelEnv:
    """The environment `doom:SCENARIO`, `metaworld:TASK` (also tasks joined by commas, MT10, MT50) or `gym:ENV_ID`;
    `gym:MODULE:ENV_ID` where a module of one's own registers it.

    height, width: pixels of the images. frame_skip: ViZDoom's tics (default 4), or the simulation's or Gymnasium's
    steps (default 1), that one step lasts. depth, labels: more cameras, ViZDoom and Meta-World only. camera: what draws
    Meta-World: `ray` needs no OpenGL, `renderer` is MuJoCo's own, `auto` takes that where MUJOCO_GL is set and works.

    Raises ValueError for a name that does not exist, naming near ones, and for an environment that cannot be recorded;
    ModuleNotFoundError when what an environment runs on is not installed.
    """
    family, _, identity = name.partition(":")
    if camera != "auto" and family != "metaworld":
        raise ValueError(f"{name} draws itself; a camera ({camera}) can be chosen for metaworld:TASK only")
    if family == "doom" and identity:
        from oneiros.envs.doom import DoomEnv

        skip = 4 if frame_skip is None else frame_skip
        return DoomEnv(identity, height=height, width=width, frame_skip=skip, seed=seed, depth=depth, labels=labels)
    if family == "metaworld" and identity:
        from oneiros.envs.metaworld import MetaWorldEnv

        skip = 1 if frame_skip is None else frame_skip
        return MetaWorldEnv(
            identity,
            height=height,
            width=width,
            frame_skip=skip,
            seed=seed,
            depth=depth,
            labels=labels,
            camera=camera,
        )
    if family == "gym" and identity:
        from oneiros.envs.rendered import RenderedEnv

        if depth or labels:
            raise ValueError(f"{name} is a Gymnasium environment, which renders colour only: no depth, no labels")
        skip = 1 if frame_skip is None else frame_skip
        return RenderedEnv(identity, height=height, width=width, frame_skip=skip, seed=seed)
    raise ValueError(
        f"{name!r} is no environment; write doom:SCENARIO, metaworld:TASK or gym:ENV_ID, such as doom:health_gathering"
    )
