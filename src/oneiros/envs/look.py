"""How a scene is made to look otherwise than it does, so that policies can be asked about what they never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Appearance:
    """table: its colour, each number 0 to 1; empty is its own. brightness: how many times as bright all is. light: the
    direction that light comes from, up being (0, 0, 1). shift: metres by which the camera is moved, along the world's
    x, y and z."""

    table: tuple[float, ...] = ()
    brightness: tuple[float, ...] = (1.0,)
    light: tuple[float, ...] = (0.0, 0.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for each in fields(self):
            values, count = getattr(self, each.name), 1 if each.name == "brightness" else 3
            if len(values) != count and not (each.name == "table" and not values):
                raise ValueError(f"look {each.name} has {len(values)} numbers; it needs {count}")
            if not all(map(math.isfinite, values)):
                raise ValueError(f"look {each.name} is {', '.join(map(str, values))}; these must be finite numbers")
        if min(*self.brightness, *self.table, 0) < 0 or max(*self.table, 0, 0) > 1:
            raise ValueError("look table is of numbers from 0 to 1, and brightness 0 or more")
        if not any(self.light):
            raise ValueError("look light is 0, 0, 0; it must come from somewhere")


def read_look(words: Sequence[str]) -> Appearance | None:
    """`table=0.7,0.2,0.2`, `brightness=0.6`, `light=1,0,1`, `shift=0.03,0,0` -> how a scene looks; None of none."""
    given: dict[str, tuple[float, ...]] = {}
    names = [each.name for each in fields(Appearance)]
    for word in words:
        name, _, numbers = word.partition("=")
        if name not in names:
            raise ValueError(f"{word!r} is no look; write NAME=NUMBERS, such as shift=0.03,0,0, of {', '.join(names)}")
        try:
            given[name] = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise ValueError(f"look {word!r} has something that is no number; write such as {name}=0.5,0,0") from None
    return Appearance(**given) if given else None
