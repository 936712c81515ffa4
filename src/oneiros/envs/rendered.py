"""Any Gymnasium environment that renders to an array, as the recorder wants it."""

from __future__ import annotations

import difflib
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.registration import load_env_creator

from oneiros.data.frames import resize
from oneiros.envs.pixel_env import PixelEnv, check_frame_skip, check_size, observation_space
from oneiros.imports import import_from_cwd
from oneiros.records import ActionSpec, Camera

DEFAULT_FPS = 30

_EXTRAS = {"gym_pusht": "pusht"}  # what else to install, by an environment's namespace


class RenderedEnv(PixelEnv):
    """What `gymnasium.make(env_id)` renders, and its own observation as state where that is a vector of numbers.

    Actions: Discrete and MultiBinary spaces become `discrete` and `keys`, a Box becomes `continuous` (flattened).
    Each step repeats the action `frame_skip` times and adds up the rewards.

    Raises ValueError for an unknown id (naming near ones), an environment that does not render to an array, or a space
    of actions that is none of the three.
    """

    def __init__(
        self, env_id: str, *, height: int = 64, width: int = 64, frame_skip: int = 1, seed: int | None = None
    ) -> None:
        check_frame_skip(frame_skip, "step of the environment")
        check_size(height, width)
        self._env = _make(env_id)
        self._name, self._size, self.frame_skip = f"gym:{env_id}", (height, width), frame_skip
        self.action_spec = _action_spec(self._name, self._env)
        self.action_space = self._env.action_space
        self.fps = max(1, round(self._env.metadata.get("render_fps", DEFAULT_FPS) / frame_skip))
        self.metadata = {**self.metadata, "render_fps": self.fps}
        self.cameras = (Camera("observation.images.front", height, width),)
        self.state_names = _numbered("state", _vector_size(self._env.observation_space))
        self.observation_space = observation_space(self.cameras, self.state_names)
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
        native, total = self._native(action), 0.0
        for _ in range(self.frame_skip):
            observation, reward, terminated, truncated, info = self._env.step(native)
            total += float(reward)
            if terminated or truncated:
                break
        return self._observe(observation), total, terminated, truncated, info

    def render(self) -> np.ndarray:
        """The newest frame, uint8 (height, width, 3)."""
        return self._frame

    def close(self) -> None:
        self._env.close()

    def _native(self, action: Any) -> Any:
        """The action as the environment itself wants it."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return space.start + np.int64(action)
        return np.asarray(action, space.dtype).reshape(space.shape)

    def _observe(self, observation: Any) -> dict[str, np.ndarray]:
        image = self._env.render()
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"{self._name} renders {found}; it must be a uint8 array (H, W, 3)")
        self._frame = resize(image[None], *self._size, crop=False)[0]
        state = {"observation.state": np.asarray(observation, np.float32)} if self.state_names else {}
        return {self.cameras[0].name: self._frame, **state}


def _make(env_id: str) -> gym.Env[Any, Any]:
    """`gymnasium.make`, with one line that helps for whatever goes wrong.

    env_id: as Gymnasium's own, MODULE:ID imports the module first; here also one of the working directory. Without
    MODULE, one that is called like the id's namespace is imported, as gym_pusht for gym_pusht/PushT-v0.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on stdout,
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # and looks for a screen that nobody needs here
    name = f"gym:{env_id}"
    module, _, env_id = env_id.rpartition(":")
    namespace = env_id.partition("/")[0] if "/" in env_id and env_id not in gym.registry else ""
    try:
        if module:
            import_from_cwd(module)
        elif namespace.isidentifier() and find_spec(namespace):
            import_module(namespace)
        entry = gym.spec(env_id).entry_point
        creator = entry if callable(entry) else load_env_creator(str(entry))
        modes = getattr(creator, "metadata", {}).get("render_modes", ["rgb_array"])
        if "rgb_array" not in modes:
            raise ValueError(f"{name} does not render to an array (render modes: {modes}); rgb_array is needed")
        return gym.make(env_id, render_mode="rgb_array", disable_env_checker=True)
    except (error.UnregisteredEnv, error.DeprecatedEnv, ModuleNotFoundError) as problem:
        if namespace in _EXTRAS and not find_spec(namespace):
            extra = _EXTRAS[namespace]
            raise ValueError(f"{name} needs more: pip install -e '.[{extra}]' in the repository") from problem
        near = difflib.get_close_matches(env_id, list(gym.registry), n=3, cutoff=0.5)
        choices = f"did you mean {' or '.join(near)}?" if near else "`gymnasium.pprint_registry()` lists what there is"
        raise ValueError(f"{name} is not a registered environment ({problem}); {choices}") from problem
    except error.Error as problem:
        raise ValueError(f"{name} cannot start: {problem}") from problem


def _action_spec(name: str, env: gym.Env[Any, Any]) -> ActionSpec:
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        meanings = getattr(env.unwrapped, "get_action_meanings", None)
        return ActionSpec("discrete", tuple(meanings()) if meanings else _numbered("action", int(space.n)))
    if isinstance(space, spaces.MultiBinary):
        return ActionSpec("keys", _numbered("key", int(np.prod(space.shape))))
    if isinstance(space, spaces.Box):
        names = _numbered("action", int(np.prod(space.shape)))
        if not space.is_bounded("both"):
            return ActionSpec("continuous", names)
        low, high = (tuple(float(x) for x in bound.ravel()) for bound in (space.low, space.high))
        return ActionSpec("continuous", names, low=low, high=high)
    raise ValueError(f"{name} takes {type(space).__name__} actions; Discrete, MultiBinary or Box can be recorded")


def _vector_size(space: spaces.Space[Any]) -> int:
    """How many numbers an observation has, where it is a vector; else 0."""
    return space.shape[0] if isinstance(space, spaces.Box) and len(space.shape) == 1 else 0


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i}" for i in range(count))
