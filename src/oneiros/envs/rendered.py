"""Any Gymnasium environment that renders to an array, as the recorder wants it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator

from oneiros.data.actions_of_space import native, spec_of
from oneiros.data.frames import resize
from oneiros.envs.pixel_env import PixelEnv, check_frame_skip, check_size, observation_space
from oneiros.imports import import_from_cwd
from oneiros.records import ActionSpec, Camera

DEFAULT_FPS = 30

_EXTRAS = {"gym_pusht": "pusht"}  # what else to install, by an environment's namespace


class RenderedEnv(PixelEnv):
    """What `gymnasium.make(env_id, **arguments)` renders, and its own observation as state where that is a vector of
    numbers (state=False: never).

    Actions: see `actions_of_space`. Each step repeats the action `frame_skip` times and adds up the rewards.

    Raises ValueError for an unknown id (naming near ones), an environment that cannot start or does not render to an
    array, or a space of actions that cannot be recorded.
    """

    def __init__(
        self,
        env_id: str,
        *,
        height: int = 64,
        width: int = 64,
        frame_skip: int = 1,
        seed: int | None = None,
        state: bool = True,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        check_frame_skip(frame_skip, "step of the environment")
        check_size(height, width)
        self._env = _make(env_id, arguments or {})
        self._name, self._size, self.frame_skip = f"gym:{env_id}", (height, width), frame_skip
        meanings = getattr(self._env.unwrapped, "get_action_meanings", tuple)()
        self.action_spec = spec_of(self._name, self._env.action_space, tuple(map(str, meanings)))
        self.action_space = _space_of(self.action_spec, self._env.action_space)
        self.fps = max(1, round((self._env.metadata.get("render_fps") or DEFAULT_FPS) / frame_skip))
        self.metadata = {**self.metadata, "render_fps": self.fps}
        self.cameras = (Camera("observation.images.front", height, width),)
        self.state_names = _numbered("state", _vector_size(self._env.observation_space) if state else 0)
        self.observation_space = observation_space(self.cameras, self.state_names)
        with _in_one_line(self._name):
            self._frame = self._observe(self._env.reset(seed=seed)[0])[self.cameras[0].name]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        observation, info = self._env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(
        self, action: Any, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        given, total = native(action, self._env.action_space), 0.0
        for _ in range(self.frame_skip):
            outcome = self._env.step(given)
            if len(outcome) != 5:
                raise ValueError(
                    f"{self._name}: its step() returns {len(outcome)} values; Gymnasium's returns 5: observation, "
                    "reward, terminated, truncated and info"
                )
            observation, reward, terminated, truncated, info = outcome
            total += float(reward)
            if terminated or truncated:
                break
        return self._observe(observation), total, terminated, truncated, info

    def render(self) -> np.ndarray:
        """The newest frame, uint8 (height, width, 3)."""
        return self._frame

    def close(self) -> None:
        self._env.close()

    def _observe(self, observation: Any) -> dict[str, np.ndarray]:
        image = self._env.render()
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"{self._name} renders {found}; it must be a uint8 array (H, W, 3)")
        self._frame = resize(image[None], *self._size, crop=False)[0]
        state = {"observation.state": np.asarray(observation, np.float32)} if self.state_names else {}
        return {self.cameras[0].name: self._frame, **state}


def _space_of(spec: ActionSpec, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """What `step` takes: choices count from 0, and of mixed actions the numbers."""
    if spec.kind == "discrete":
        return spaces.Discrete(spec.size)
    if spec.whole and not isinstance(space, spaces.Box):
        low, high = (np.array(bound, np.float32) for bound in (spec.low, spec.high))
        return spaces.Box(low, high, dtype=np.float32)
    return space


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Inside, whatever an environment stumbles over while it starts is a ValueError of one line."""
    try:
        yield
    except (ValueError, ModuleNotFoundError) as problem:
        if str(problem).startswith(name):
            raise
        raise ValueError(f"{name} cannot start: {problem}") from problem
    except Exception as problem:
        text = f"{type(problem).__name__}: {problem}"
        hint = ""
        if isinstance(problem, TypeError) and "required" in text:
            hint = "; give it what it needs with --env-args NAME=VALUE"
        elif isinstance(problem, TypeError) and "'seed'" in text:
            hint = "; Gymnasium's reset(*, seed=None, options=None) takes a seed"
        elif re.search(r"GL|gl[A-Z]|display", text):
            hint = "; it draws with OpenGL, which MUJOCO_GL=egl or MUJOCO_GL=osmesa may find without a screen"
        raise ValueError(f"{name} cannot start ({text}){hint}") from problem


def _make(env_id: str, arguments: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """`gymnasium.make` with these arguments, and one line that helps for whatever goes wrong."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on stdout,
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # and looks for a screen that nobody needs here
    spec, name = find_env(env_id), f"gym:{env_id}"
    with _in_one_line(name):
        entry = spec.entry_point
        creator = entry if callable(entry) else load_env_creator(str(entry))
        modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
        if "rgb_array" not in modes:
            raise ValueError(f"{name} does not render to an array (render modes: {modes}); rgb_array is needed")
        return gym.make(spec, **{**arguments, "render_mode": "rgb_array", "disable_env_checker": True})


def find_env(env_id: str) -> EnvSpec:
    """What is registered under an id. ValueError, naming near ones, where nothing is.

    env_id: as Gymnasium's own, MODULE:ID imports the module first; here also one of the working directory. Without
    MODULE, one that is called like the id's namespace is imported, as gym_pusht for gym_pusht/PushT-v0.
    """
    name = f"gym:{env_id}"
    module, _, env_id = env_id.rpartition(":")
    namespace = env_id.partition("/")[0] if "/" in env_id and env_id not in gym.registry else ""
    try:
        if module:
            import_from_cwd(module)
        elif namespace.isidentifier() and find_spec(namespace):
            import_module(namespace)
        return gym.spec(env_id)
    except (error.Error, ModuleNotFoundError) as problem:
        if namespace in _EXTRAS and not find_spec(namespace):
            extra = _EXTRAS[namespace]
            raise ValueError(f"{name} needs more: pip install -e '.[{extra}]' in the repository") from problem
        near = difflib.get_close_matches(env_id, list(gym.registry), n=3, cutoff=0.5)
        choices = f"did you mean {' or '.join(near)}?" if near else "`gymnasium.pprint_registry()` lists what there is"
        raise ValueError(f"{name} is not a registered environment ({problem}); {choices}") from problem


def _vector_size(space: spaces.Space[Any]) -> int:
    """How many numbers an observation has, where it is a vector; else 0."""
    return space.shape[0] if isinstance(space, spaces.Box) and len(space.shape) == 1 else 0


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i}" for i in range(count))
