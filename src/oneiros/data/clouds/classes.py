"""What the classification codes of a cloud mean, and which of them make up the classes that a segmenter learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# LAS 1.4, table 17
ASPRS = {
    0: "never classified",
    1: "unclassified",
    2: "ground",
    3: "low vegetation",
    4: "medium vegetation",
    5: "high vegetation",
    6: "building",
    7: "low noise",
    8: "model key point",
    9: "water",
    10: "rail",
    11: "road surface",
    12: "overlap",
    13: "wire guard",
    14: "wire conductor",
    15: "transmission tower",
    16: "wire connector",
    17: "bridge deck",
    18: "high noise",
}
_VEGETATION = {3, 4, 5}
MAX_CODE = 255


@dataclass(frozen=True)
class Grouping:
    """names: of each class. codes: the classification codes that count as it; no code counts as two."""

    names: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]

    def labels(self, classification: np.ndarray) -> np.ndarray:
        """Classification codes (N,) -> classes int64 (N,), -1 for codes of no class."""
        table = np.full(int(max(classification.max(initial=0), MAX_CODE)) + 1, -1, np.int64)
        for number, codes in enumerate(self.codes):
            table[list(codes)] = number
        return table[classification]


def parse_classes(text: str, names: Sequence[str] = ()) -> Grouping:
    """Read `2,3-5,6`: a class for each part between commas, of one code or of all from one to another.

    names: one for each class; where there are none, those of ASPRS. Raises ValueError for anything else, for a code
    that is named twice and for fewer than two classes.
    """
    codes = tuple(_codes(part) for part in text.split(","))
    every = [code for group in codes for code in group]
    if twice := sorted({code for code in every if every.count(code) > 1}):
        raise ValueError(f"--classes {text}: code {twice[0]} stands in two classes")
    if len(codes) < 2:
        raise ValueError(f"--classes {text}: a segmenter needs at least two classes, such as 2,3-5,6")
    if names and len(names) != len(codes):
        raise ValueError(f"--names gives {len(names)} names for the {len(codes)} classes of --classes {text}")
    _check_names(names)
    return Grouping(tuple(names) or tuple(_name(group) for group in codes), codes)


def parse_codes(text: str, option: str) -> tuple[int, ...]:
    """Read `7,18,64-65`: codes and ranges of codes; none of an empty text. ValueError, naming `option`."""
    return tuple(code for part in text.split(",") if part.strip() for code in _codes(part, option))


def _check_names(names: Sequence[str]) -> None:
    """Probabilities are attributes of these names, with _ for blanks."""
    seen = set()
    for name in names:
        if not name.strip():
            raise ValueError("--names: a class has no name")
        if (plain := name.replace(" ", "_")) in seen:
            raise ValueError(f"--names: {name} names two classes")
        seen.add(plain)


def _codes(part: str, option: str = "--classes") -> tuple[int, ...]:
    low, dash, high = part.strip().partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()):
        raise ValueError(f"{option}: {part!r} is no code, such as 2, nor a range of codes, such as 3-5")
    first, last = int(low), int(high or low)
    if not first <= last <= MAX_CODE:
        raise ValueError(f"{option}: {part!r}; codes go from 0 to {MAX_CODE}, the lower one first")
    return tuple(range(first, last + 1))


def _name(codes: tuple[int, ...]) -> str:
    if set(codes) <= _VEGETATION and len(codes) > 1:
        return "vegetation"
    return " or ".join(ASPRS.get(code, f"class {code}") for code in codes)
