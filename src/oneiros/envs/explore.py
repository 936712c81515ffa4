"""Policies for recording: sticky random exploration, or a Python callable by name.

A policy is called as `policy(observation, spec, rng)` and returns an action (see `ActionSpec`). A class is called once
for each episode and its instance is the policy, so that it can remember; a plain function serves all episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from oneiros.envs.pixel_env import PixelEnv
from oneiros.imports import import_from_cwd
from oneiros.records import ActionSpec

ActionSource = Callable[[Mapping[str, np.ndarray], ActionSpec, np.random.Generator], Any]

LONGEST_HOLD = 8

# Keys that exclude each other, with how often each is held. What is missing to 1 is "none of them".
_AXES = (
    {"TURN_LEFT": 0.3, "TURN_RIGHT": 0.3},
    {"MOVE_FORWARD": 0.7, "MOVE_BACKWARD": 0.1},
    {"MOVE_LEFT": 0.1, "MOVE_RIGHT": 0.1},
)
_SIDESTEPPING = {"MOVE_LEFT": 0.4, "MOVE_RIGHT": 0.4}  # where nothing else moves the player
_OTHER_KEY = 0.15


class StickyRandom:
    """Draws a random action, holds it for 1 to 8 steps, and draws the next.

    Held actions carry the player somewhere, which independent draws never do. Keys: forward most of the time, never
    two opposite keys together. Discrete: every choice alike. Continuous: uniform within the bounds, else normal; keys
    among them as keys, and a mouse's ways (`*_DELTA`) rather short than long.
    """

    def __init__(self) -> None:
        self._action: np.ndarray | np.int64 = np.int64(0)
        self._steps_left = 0

    def __call__(
        self, observation: Mapping[str, np.ndarray], spec: ActionSpec, rng: np.random.Generator
    ) -> np.ndarray | np.int64:
        if self._steps_left == 0:
            self._action, self._steps_left = _draw(spec, rng), int(rng.integers(1, LONGEST_HOLD + 1))
        self._steps_left -= 1
        return self._action


class Expert:
    """What the environment's own scripted expert does, who may see more than the policy to be learned.

    noise: standard deviation of what is added to every action, within the action's bounds.
    """

    def __init__(self, env: PixelEnv, *, noise: float = 0.0) -> None:
        self._advise, self._noise = env.expert_action, noise

    def __call__(self, observation: Mapping[str, np.ndarray], spec: ActionSpec, rng: np.random.Generator) -> np.ndarray:
        action = self._advise()
        if self._noise:
            action = np.clip(action + rng.normal(0, self._noise, action.shape), spec.low, spec.high)
        return action.astype(np.float32)


def load_policy(path: str) -> Callable[[], ActionSource]:
    """`module:function` or `module:Class` -> a maker of the policy, called once an episode.

    Modules are looked for in the working directory too. Raises ValueError when there is no such callable.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"policy {path!r} is no module:function, such as my_policies:drive")
    try:
        policy = getattr(import_from_cwd(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"policy {path!r}: {error}; write module:function, seen from the working directory") from error
    except AttributeError as error:
        raise ValueError(f"policy {path!r}: {module_name} has no {attribute}") from error
    if not callable(policy):
        raise ValueError(f"policy {path!r} is a {type(policy).__name__}; it must be callable")
    return policy if isinstance(policy, type) else lambda: policy


def _draw(spec: ActionSpec, rng: np.random.Generator) -> np.ndarray | np.int64:
    if spec.kind == "discrete":
        return rng.integers(spec.size)
    if spec.kind == "keys":
        return _draw_keys(spec, rng)
    low, high = (np.array(bound or [np.inf] * spec.size) for bound in (spec.low, spec.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    if not bounded.any():
        return rng.normal(*spec.statistics).astype(np.float32)
    half = np.where(spec.whole, 0.5, 0.0) if spec.whole else 0.0  # the ends come as often as what lies between
    drawn = rng.uniform(np.where(bounded, low - half, 0), np.where(bounded, high + half, 1))
    if not bounded.all():
        drawn = np.where(bounded, drawn, rng.normal(*spec.statistics))
    ways = bounded & [name.endswith("_DELTA") for name in spec.names]
    drawn[ways] *= (drawn[ways] / high[ways]) ** 2
    held = (low == 0) & (high == 1) & np.array(spec.whole or [False] * spec.size)
    if held.any():
        drawn[held] = _draw_keys(ActionSpec("keys", tuple(np.array(spec.names)[held])), rng)
    return drawn.astype(np.float32)


def _draw_keys(spec: ActionSpec, rng: np.random.Generator) -> np.ndarray:
    walks = {"TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"} & set(spec.names)
    axes = _AXES if walks else (_SIDESTEPPING,)
    paired = {name for axis in axes for name in axis}
    axes = (*axes, *({name: _OTHER_KEY} for name in spec.names if name not in paired))
    held = {name for axis in axes if (name := _draw_from(axis, rng)) is not None}
    return np.array([name in held for name in spec.names])


def _draw_from(axis: Mapping[str, float], rng: np.random.Generator) -> str | None:
    names, probabilities = [*axis, None], [*axis.values(), 1 - sum(axis.values())]
    return names[rng.choice(len(names), p=probabilities)]
