"""Environments by name, all with one face for the recorder and the player."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from oneiros.envs.look import Appearance
from oneiros.envs.pixel_env import CameraKind, PixelEnv

_PACKAGES = {"doom": "vizdoom", "metaworld": "metaworld"}  # of a family of environments


def make_env(
    name: str,
    *,
    height: int = 64,
    width: int = 64,
    frame_skip: int | None = None,
    fps: float | None = None,
    seed: int | None = None,
    depth: bool = False,
    labels: bool = False,
    camera: CameraKind = "auto",
    state: bool = True,
    arguments: Mapping[str, Any] | None = None,
    look: Appearance | None = None,
) -> PixelEnv:
    """The environment `doom:SCENARIO` (doom:PATH.cfg is a scenario of one's own), `metaworld:TASK` (also tasks joined
    by commas, MT10, MT50) or `gym:ENV_ID`; `gym:MODULE:ENV_ID` where a module of one's own registers it.

    height, width: pixels of the images. frame_skip: ViZDoom's tics (default 4), or the simulation's or Gymnasium's
    steps (default 1), that one step lasts. fps: instead, the steps a second that are wanted: the environment comes as
    near as it can, and its own `fps` tells how near. depth, labels: more cameras, ViZDoom and Meta-World only. camera:
    what draws Meta-World: `ray` needs no OpenGL, `renderer` is MuJoCo's own, `auto` takes that where MUJOCO_GL is set
    and works. state: of a Gymnasium environment, its observation, where that is a vector. arguments: of
    `gymnasium.make`. look: how Meta-World is to look otherwise.

    Raises ValueError for a name that does not exist, naming near ones, and for an environment that cannot be recorded;
    ModuleNotFoundError when what an environment runs on is not installed.
    """
    if fps is not None and frame_skip is not None:
        raise ValueError(f"frame_skip is {frame_skip} and fps {fps:g}; one of them decides the other")
    if (arguments or not state) and not name.startswith("gym:"):
        raise ValueError(f"{name} takes no arguments and keeps its state; only gym:ENV_ID may be told otherwise")
    opened = partial(
        _open,
        name,
        height=height,
        width=width,
        seed=seed,
        depth=depth,
        labels=labels,
        camera=camera,
        state=state,
        arguments=arguments,
        look=look,
    )
    env = opened(frame_skip=frame_skip)
    if fps is None:
        return env
    skip = max(1, round(env.frame_skip * env.fps / fps))
    if skip == env.frame_skip:
        return env
    env.close()
    return opened(frame_skip=skip)


def check_name(name: str) -> None:
    """Raises what `make_env` raises for a name that does not exist, as far as that shows without starting anything."""
    family, _, identity = name.partition(":")
    if family == "doom" and identity:
        from oneiros.envs.doom_scenarios import find_scenario

        find_scenario(identity)
    elif family == "gym" and identity:
        from oneiros.envs.rendered import find_env

        find_env(identity)
    elif family == "metaworld" and identity:
        from oneiros.envs.metaworld.tasks import task_names

        task_names(identity)
    else:
        raise _no_environment(name)


def _no_environment(name: str) -> ValueError:
    return ValueError(
        f"{name!r} is no environment; write doom:SCENARIO, metaworld:TASK or gym:ENV_ID, such as doom:health_gathering"
    )


def read_arguments(words: Sequence[str]) -> dict[str, Any]:
    """`level=3`, `map=forest` -> {"level": 3, "map": "forest"}: values are JSON where they can be, else texts."""
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{word!r} is no argument of an environment; write NAME=VALUE, such as level=3")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments


def is_built_in(name: str) -> bool:
    """Whether `make_env` opens this environment without importing a module that the name tells of, or one of the
    working folder: doom:, metaworld:, and what Gymnasium has registered by itself.

    Names that stand in a file (a run's config.json, a dataset's robot_type) may be opened only if they are; a stranger
    would choose which code runs otherwise. Others are opened where the user types them.
    """
    family, _, identity = name.partition(":")
    if family in _PACKAGES:
        return not _lies_here(_PACKAGES[family]) and not identity.endswith(".cfg")  # a file that tells of others
    if family != "gym":
        return False
    import gymnasium

    spec = gymnasium.registry.get(identity)
    entry = spec.entry_point if spec else None
    return callable(entry) or (isinstance(entry, str) and not _lies_here(entry.partition(":")[0]))


def _lies_here(module: str) -> bool:
    """Whether importing the module would take it from the working folder, which may be on the path."""
    found = importlib.util.find_spec(module.partition(".")[0])
    places = (found.submodule_search_locations or [found.origin or ""]) if found else []
    return any(Path(place).resolve().parent == Path.cwd() for place in places)


def _open(
    name: str,
    *,
    height: int,
    width: int,
    frame_skip: int | None,
    seed: int | None,
    depth: bool,
    labels: bool,
    camera: CameraKind,
    state: bool,
    arguments: Mapping[str, Any] | None,
    look: Appearance | None,
) -> PixelEnv:
    family, _, identity = name.partition(":")
    if camera != "auto" and family != "metaworld":
        raise ValueError(f"{name} draws itself; a camera ({camera}) can be chosen for metaworld:TASK only")
    if look is not None and family != "metaworld":
        raise ValueError(f"{name} draws itself; only metaworld:TASK can be made to look otherwise")
    if family == "doom" and identity:
        from oneiros.envs.doom import DoomEnv

        skip = 4 if frame_skip is None else frame_skip
        return DoomEnv(identity, height=height, width=width, frame_skip=skip, seed=seed, depth=depth, labels=labels)
    if family == "metaworld" and identity:
        from oneiros.envs.metaworld.env import MetaWorldEnv

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
            look=look,
        )
    if family == "gym" and identity:
        from oneiros.envs.rendered import RenderedEnv

        if depth or labels:
            raise ValueError(f"{name} is a Gymnasium environment, which renders colour only: no depth, no labels")
        skip = 1 if frame_skip is None else frame_skip
        return RenderedEnv(
            identity, height=height, width=width, frame_skip=skip, seed=seed, state=state, arguments=arguments
        )
    raise _no_environment(name)
