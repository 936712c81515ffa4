"""Actions as people write them: by name, several keys together, a script for many frames.

discrete    TURN_LEFT                     one name, its number in the list, or the beginning of one name only
keys        MOVE_FORWARD+TURN_LEFT        any of them held together (duplicates count once); none = no key
continuous  0.1 -0.3   or   wrist=0.5     all values, or some by name; the others stay at their mean, or next to it
a script    MOVE_FORWARD*8,TURN_LEFT*4    steps in order, each repeated so many frames
"""

from __future__ import annotations

import re
from itertools import groupby

import numpy as np

from oneiros.records import ActionSpec

MOST_STEPS = 100_000  # of a script, hours of play: a slip of the finger should not fill the memory

_NOTHING = ("none", "-")


def parse_action(text: str, spec: ActionSpec) -> np.ndarray:
    """One action from its text: int64 () discrete, bool (A,) keys, float32 (A,) continuous.

    Raises ValueError naming what is no action and what there is to choose from.
    """
    text = text.strip()
    if spec.kind == "discrete":
        return np.array(_index(text, spec), np.int64)
    if spec.kind == "keys":
        held = np.zeros(spec.size, bool)
        words = [] if text.lower() in _NOTHING else re.split(r"[+\s]+", text)
        held[[_index(word, spec) for word in words]] = True
        return held
    return _continuous(text, spec)


def parse_script(text: str, spec: ActionSpec) -> np.ndarray:
    """All actions of `MOVE_FORWARD*8,TURN_LEFT*4`, one a frame: (F,) discrete, (F, A) keys or continuous."""
    actions = []
    for step in filter(None, (part.strip() for part in text.split(","))):
        name, star, count = step.rpartition("*")
        times = whole_number(count) if star else 1
        if not times:
            raise ValueError(
                f"{_short(step)!r} repeats an action {_short(count)!r} times; write a whole number above 0, as LEFT*8"
            )
        if len(actions) + times > MOST_STEPS:
            raise ValueError(f"the script goes on for {len(actions) + times:,} steps; {MOST_STEPS:,} are the most")
        actions += [parse_action(name if star else step, spec)] * times
    if not actions:
        raise ValueError(f"the script {_short(text)!r} holds no action; write for example {spec.names[0]}*8")
    return np.stack(actions)


def whole_number(text: str) -> int | None:
    """The number of a text of at most nine digits; None where it is none."""
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) < 10 else None


def action_text(action: np.ndarray, spec: ActionSpec) -> str:
    """The text of one action, which `parse_action` reads back."""
    if spec.kind == "discrete":
        return spec.names[int(action)]
    if spec.kind == "keys":
        return "+".join(name for name, held in zip(spec.names, action, strict=True) if held) or _NOTHING[0]
    return " ".join(str(np.float32(value)) for value in action)


def script_text(actions: np.ndarray, spec: ActionSpec) -> str:
    """The script of many actions, equal neighbours joined, which `parse_script` reads back."""
    runs = [(text, len(list(same))) for text, same in groupby(action_text(action, spec) for action in actions)]
    return ",".join(text if count == 1 else f"{text}*{count}" for text, count in runs)


def choices_text(spec: ActionSpec) -> str:
    """What there is to choose from, on one line."""
    if spec.kind == "continuous":
        return f"{spec.size} numbers ({', '.join(spec.names)}), or name=value"
    return ", ".join(f"{number} {name}" for number, name in enumerate(spec.names))


def _index(word: str, spec: ActionSpec) -> int:
    """A name, its number, or the beginning of exactly one name; upper and lower case are the same."""
    names = [name.lower() for name in spec.names]
    if word.lower() in names:
        return names.index(word.lower())
    number = whole_number(word)
    if number is not None and number < spec.size:
        return number
    begun = [index for index, name in enumerate(names) if word and name.startswith(word.lower())]
    if len(begun) == 1:
        return begun[0]
    nothing = "; none = hold nothing" if spec.kind == "keys" else ""
    raise ValueError(f"{_short(word)} is not an action; choose from {choices_text(spec)}{nothing}")


def _continuous(text: str, spec: ActionSpec) -> np.ndarray:
    words = text.split()
    if words and all("=" in word for word in words):
        values = np.array(spec.done(spec.statistics[0]), np.float32)
        for word in words:
            name, _, number = word.partition("=")
            values[_index(name, spec)] = _number(number, spec)
        return values
    if len(words) != spec.size:
        raise ValueError(f"{_short(text)!r} holds {len(words)} values; an action here is {choices_text(spec)}")
    return np.array([_number(word, spec) for word in words], np.float32)


def _number(word: str, spec: ActionSpec) -> float:
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not abs(value) < float(np.finfo(np.float32).max):  # NaN is not either
        raise ValueError(f"{_short(word)!r} is not a finite number; an action here is {choices_text(spec)}")
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
