"""Gymnasium's spaces of actions as an `ActionSpec`, and actions as the environment itself wants them.

Discrete becomes `discrete`, MultiBinary `keys`, Box `continuous`. MultiDiscrete, and Tuple and Dict of any of them,
become `continuous` too: a number for each choice and each key, which is whole (see `ActionSpec.whole`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from oneiros.records import ActionSpec

_ENDLESS = 1e30  # bounds beyond are none: the largest float32 stands for infinity in some environments


def spec_of(name: str, space: spaces.Space[Any], meanings: Sequence[str] = ()) -> ActionSpec:
    """ValueError for a space that cannot be recorded, of what is called `name`. meanings: of choices."""
    if isinstance(space, spaces.Discrete):
        count = int(space.n)
        fits = len(set(meanings)) == len(meanings) == count
        return ActionSpec("discrete", tuple(meanings) if fits else _numbered("action", count))
    if isinstance(space, spaces.MultiBinary):
        return ActionSpec("keys", _numbered("key", int(np.prod(space.shape))))
    parts = [*_numbers(name, space, "")]
    names, low, high, whole = zip(*parts, strict=True) if parts else ((), (), (), ())
    bounded = np.isfinite([*low, *high]).any()
    return ActionSpec(
        "continuous", names, low=low if bounded else (), high=high if bounded else (), whole=whole if any(whole) else ()
    )


def _numbers(name: str, space: spaces.Space[Any], word: str) -> Sequence[tuple[str, float, float, bool]]:
    """Name, bounds and wholeness of each number of an action."""
    if isinstance(space, spaces.Box):
        whole = np.issubdtype(space.dtype, np.integer)
        bounds = zip(*(_bounds(bound) for bound in (space.low, space.high)), strict=True)
        return [(f"{word or 'action'}_{i}", low, high, whole) for i, (low, high) in enumerate(bounds)]
    if isinstance(space, spaces.Discrete):
        return [(word or "action", float(space.start), float(space.start + space.n - 1), True)]
    if isinstance(space, spaces.MultiBinary):
        return [(f"{word or 'key'}_{i}", 0.0, 1.0, True) for i in range(int(np.prod(space.shape)))]
    if isinstance(space, spaces.MultiDiscrete):
        start = np.broadcast_to(space.start, space.nvec.shape).ravel()
        ends = zip(start.tolist(), (start + space.nvec.ravel() - 1).tolist(), strict=True)
        return [(f"{word or 'choice'}_{i}", float(low), float(high), True) for i, (low, high) in enumerate(ends)]
    if isinstance(space, spaces.Tuple | spaces.Dict):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return [each for key, part in inner for each in _numbers(name, part, f"{word}.{key}" if word else f"{key}")]
    raise ValueError(
        f"{name} takes {type(space).__name__} actions; Discrete, MultiBinary, MultiDiscrete, Box, and Tuple and Dict "
        "of them can be recorded"
    )


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}_{i}" for i in range(count))


def _bounds(bound: np.ndarray) -> list[float]:
    return [float(each) if abs(each) < _ENDLESS else float(np.copysign(np.inf, each)) for each in bound.ravel()]


def native(action: Any, space: spaces.Space[Any]) -> Any:
    """An action of the spec as the environment's own space has it."""
    if isinstance(space, spaces.Discrete) and np.ndim(action) == 0:
        return space.start + np.int64(action)
    value, rest = _take(np.asarray(action).ravel(), space)
    assert not len(rest)
    return value


def _take(numbers: np.ndarray, space: spaces.Space[Any]) -> tuple[Any, np.ndarray]:
    """The part of an action that is for this space, and the numbers that are left."""
    if isinstance(space, spaces.Tuple):
        values = []
        for part in space.spaces:
            value, numbers = _take(numbers, part)
            values.append(value)
        return tuple(values), numbers
    if isinstance(space, spaces.Dict):
        named = {}
        for key, part in space.spaces.items():
            named[key], numbers = _take(numbers, part)
        return named, numbers
    if isinstance(space, spaces.Discrete):
        value = np.int64(round(float(numbers[0])))
        return np.clip(value, space.start, space.start + space.n - 1), numbers[1:]
    assert space.shape is not None
    count = int(np.prod(space.shape))
    value = numbers[:count].reshape(space.shape)
    if isinstance(space, spaces.Box):  # of a finer type than ours, whose bounds ours may pass by a rounding
        value = np.clip(np.round(value) if np.issubdtype(space.dtype, np.integer) else value, space.low, space.high)
    return value.astype(space.dtype), numbers[count:]
