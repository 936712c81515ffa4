"""Tables of actions beside films: csv, json or jsonl; a row for each frame, or rows with frame numbers or times.

Columns become actions by name: one of texts is a choice, columns of 0 and 1 are keys, others are numbers. A table of
events (which key went down or up, and when) becomes keys that are held in between. Lines as the Video PreTraining
contractors' (keyboard and mouse; github.com/openai/Video-Pre-Training) become keys, buttons and the mouse's way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.json_file import read_json, read_json_lines
from oneiros.records import ActionSpec

ENDINGS = (".csv", ".json", ".jsonl")
MOST_NAMES = 512  # of choices or keys

_FRAME, _TIME = ("frame", "frame_index", "frame_number"), ("time", "timestamp", "seconds", "t")
_KEY, _EVENT = ("key", "button"), ("event", "type", "state")
_DOWN, _UP = ("down", "press", "pressed", "keydown", "1", "true"), ("up", "release", "released", "keyup", "0", "false")
_OTHER = ("index", "episode", "episode_index", "reward", "done", "task", "task_index", "tick", "milli", "")
_MOST_ROWS = 5_000_000
Row = Mapping[str, Any]


class Table:
    """One table. Rows are read when they are asked for, and not kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """ValueError, naming the file, for one that cannot be read or has no rows of columns."""
        rows = [_flat(row) for row in self._raw()]
        if not rows or not all(rows):
            raise ValueError(f"{self.path}: has no rows of named values")
        if len(rows) > _MOST_ROWS:
            raise ValueError(f"{self.path}: has {len(rows):,} rows; at most {_MOST_ROWS:,} can be read")
        return rows

    @cached_property
    def columns(self) -> dict[str, set[str]]:
        """Each column's values as texts, as far as there are few: what its kind follows from."""
        found: dict[str, set[str]] = {}
        for row in self.rows():
            for name, value in row.items():
                values = found.setdefault(name, set())
                if len(values) <= MOST_NAMES:
                    values.add(str(value).strip())
        return found

    @property
    def is_events(self) -> bool:
        return bool(_first(self.columns, _KEY) and _first(self.columns, _EVENT))

    def read(self, spec: ActionSpec, column: str, times: np.ndarray, fps: float) -> np.ndarray:
        """An action for each frame: (T,) choices, (T, A) keys or numbers.

        column: that choices are in. times: of the frames, in seconds.

        ValueError, naming file and row, where they do not match.
        """
        rows = self.rows()
        if self.is_events:
            return self._held(rows, spec, times, fps)
        values = np.stack([self._action(row, spec, column, number) for number, row in enumerate(rows)])
        places = self._places(rows, times, fps)
        if places is None:
            if not len(times) - 1 <= len(rows) <= len(times):
                raise ValueError(
                    f"{self.path}: has {len(rows)} rows, its film {len(times)} frames; give each row a column "
                    f"{_FRAME[0]} or {_TIME[0]}"
                )
            return values
        latest = np.searchsorted(places, np.arange(len(times)), side="right") - 1  # of each frame: its newest row
        if latest[0] < 0:
            raise ValueError(f"{self.path}: its first row is of frame {int(places[0])}; frames before have no action")
        return values[latest]

    def _places(self, rows: Sequence[Row], times: np.ndarray, fps: float) -> np.ndarray | None:
        """The frame that each row is of, rising; None where rows do not say."""
        name, when = _first(self.columns, _FRAME), _first(self.columns, _TIME)
        if name is None and when is None:
            return None
        told = np.array([_number(row.get(name or when or ""), self.path, at) for at, row in enumerate(rows)])
        if (np.diff(told) < 0).any():
            raise ValueError(f"{self.path}: row {int((np.diff(told) < 0).argmax()) + 1} is before the one above it")
        if name is not None:
            return told
        return np.searchsorted(times - 0.5 / fps, told - told[0] if told[0] > times[-1] else told, side="right") - 1.0

    def _held(self, rows: Sequence[Row], spec: ActionSpec, times: np.ndarray, fps: float) -> np.ndarray:
        """Keys that are down at some moment of each frame."""
        places = self._places(rows, times, fps)
        if places is None:
            raise ValueError(f"{self.path}: events need a column {_FRAME[0]} or {_TIME[0]}")
        key, event = _first(self.columns, _KEY), _first(self.columns, _EVENT)
        held = np.zeros((len(times), spec.size), bool)
        down: dict[int, int] = {}
        for number, (row, place) in enumerate(zip(rows, places.astype(int).clip(0, len(times)).tolist(), strict=True)):
            which, what = spec.names.index(str(row[key or ""]).strip()), str(row[event or ""]).strip().lower()
            if what in _DOWN:
                down.setdefault(which, place)
            elif what in _UP:
                held[down.pop(which, place) : place + 1, which] = True
            else:
                raise ValueError(f"{self.path}: row {number}: {what!r} is no event; write {_DOWN[0]} or {_UP[0]}")
        for which, place in down.items():
            held[place:, which] = True
        return held

    def _action(self, row: Row, spec: ActionSpec, column: str, number: int) -> np.ndarray:
        if spec.kind == "discrete":
            if column not in row:
                raise ValueError(f"{self.path}: row {number} has no {column}")
            return np.array(spec.names.index(str(row[column]).strip()))
        values = [_number(row.get(name, 0), self.path, number) for name in spec.names]
        return np.array(values) > 0.5 if spec.kind == "keys" else np.array(values, np.float32)

    def _raw(self) -> Iterator[Any]:
        ending = self.path.suffix.lower()
        if ending == ".jsonl":
            yield from read_json_lines(self.path)
        elif ending == ".json":
            found = read_json(self.path)
            yield from found if isinstance(found, list) else _transposed(found, self.path)
        else:
            try:
                with self.path.open(newline="", encoding="utf-8-sig") as file:
                    yield from csv.DictReader(file)
            except (csv.Error, UnicodeDecodeError) as error:
                raise ValueError(f"{self.path}: cannot be read as csv ({error})") from error


def read_spec(tables: Sequence[Table], wanted: Sequence[str]) -> tuple[ActionSpec, str]:
    """What can be done in any of the tables, and the column that choices are in.

    wanted: columns that are actions; none: all that are not of time or place.

    ValueError where a column is not there, or no kind of action fits.
    """
    columns: dict[str, set[str]] = {}
    for table in tables:
        for name, values in table.columns.items():
            columns.setdefault(name, set()).update(values)
    where = tables[0].path
    if all(table.is_events for table in tables):
        key = _first(columns, _KEY)
        return ActionSpec("keys", tuple(sorted(columns[key or ""]))), ""
    if missing := [name for name in wanted if name not in columns]:
        raise ValueError(f"{where}: has no column {missing[0]}; it has {', '.join(columns)}")
    chosen = list(wanted) or list(name for name in columns if name.lower() not in (*_FRAME, *_TIME, *_OTHER))
    if not chosen:
        raise ValueError(f"{where}: has no column of actions; it has {', '.join(columns)}")
    texts = [name for name in chosen if not all(_is_number(value) for value in columns[name])]
    if texts and (len(chosen) > 1 or len(columns[chosen[0]]) > MOST_NAMES):
        raise ValueError(
            f"{where}: column {texts[0]} holds texts; choices are one column alone, so name the columns of actions "
            "(--actions COLUMN,COLUMN)"
        )
    if texts or (len(chosen) == 1 and all(value.lstrip("-").isdigit() for value in columns[chosen[0]])):
        names = sorted(
            columns[chosen[0]], key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text)
        )
        if len(names) <= MOST_NAMES:
            return ActionSpec("discrete", tuple(names)), chosen[0]
    switches = [columns[name] <= {"0", "1", "0.0", "1.0", "True", "False", "true", "false"} for name in chosen]
    if all(switches):
        return ActionSpec("keys", tuple(chosen)), ""
    return ActionSpec("continuous", tuple(chosen), whole=tuple(switches) if any(switches) else ()), ""


def _flat(row: Any) -> dict[str, Any]:
    """A row of plain values: keyboards, mice and vectors inside it become columns of their own."""
    flat: dict[str, Any] = {}
    for name, value in row.items() if isinstance(row, Mapping) else ():
        if name == "keyboard" and isinstance(value, Mapping):
            flat |= {str(key).removeprefix("key.keyboard."): 1 for key in value.get("keys") or ()}
        elif name == "mouse" and isinstance(value, Mapping):
            flat |= {f"mouse.{axis}": value.get(axis, 0) for axis in ("dx", "dy")}
            flat |= {f"mouse.{button}": 1 for button in value.get("buttons") or ()}
        elif isinstance(value, list):
            flat |= {f"{name}_{place}": each for place, each in enumerate(value)}
        elif isinstance(value, str | int | float) and not (isinstance(row.get("mouse"), Mapping)):
            flat[str(name)] = value
    return flat


def _transposed(columns: Any, path: Path) -> Iterator[dict[str, Any]]:
    """{"a": [1, 2], "b": [3, 4]} -> {"a": 1, "b": 3}, {"a": 2, "b": 4}."""
    if not isinstance(columns, Mapping) or not all(isinstance(values, list) for values in columns.values()):
        raise ValueError(f"{path}: is neither a list of rows nor an object of columns")
    if len({len(values) for values in columns.values()}) != 1:
        raise ValueError(f"{path}: its columns are of different lengths")
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _first(columns: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in columns if name.lower() in names), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false")
    return True


def _number(value: Any, path: Path, row: int) -> float:
    text = str(value).strip().lower()
    try:
        number = {"true": 1.0, "false": 0.0}.get(text)
        number = float(text) if number is None else number
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"{path}: row {row}: {str(value)[:40]!r} is no number")
    return number
