"""JSON from files that strangers made: bounded in size and depth, and wrong in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_BYTES, _MOST_LEVELS = 2**24, 64  # of a file, or of a line in one with many; parsed, it takes twenty times that


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError where it cannot be read, OSError where it is not there."""
    if path.stat().st_size > _MOST_BYTES or not path.is_file():
        raise ValueError(f"{path}: is no file of at most {_MOST_BYTES >> 20} MiB")
    return parse_json(path.read_bytes(), str(path))


def read_json_lines(path: Path) -> list[Any]:
    """What a file holds that has a JSON value in every line; likewise. Empty lines are left out."""
    if not path.is_file():
        raise ValueError(f"{path}: is missing")
    with path.open("rb") as file:
        lines = enumerate(file, 1)
        return [parse_json(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def parse_json(text: bytes, where: str) -> Any:
    """What the text holds. Raises ValueError, beginning with `where`, for anything but JSON, too much or too deep."""
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{where}: takes more than {_MOST_BYTES >> 20} MiB")
    try:
        value = json.loads(text)
        _check_depth(value)
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair could not be printed
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is no valid JSON ({error})") from None
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [part for each in level for part in _parts(each)]
    if level:
        raise ValueError(f"nested more than {_MOST_LEVELS} levels deep")


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
