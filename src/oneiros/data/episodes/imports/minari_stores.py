"""How Minari keeps episodes: all in one file of HDF5, or a folder of Arrow's or Parquet's files each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from oneiros.data.episodes.imports.hdf5 import array_of, frames_of, opened, picture_of
from oneiros.disk import inside

_FILE = "main_data.hdf5"
_NUMBERED = re.compile(r"(?:episode_)?(\d+)")
_MOST_NUMBERS = 2**27  # of an episode's column
_ROWS_AT_ONCE = 16

Place = tuple[str | int, ...]  # of a part: keys of a Dict, numbers of a Tuple


@dataclass(frozen=True)
class FilmPlace:
    """A camera, and where in an observation its pictures of this shape are."""

    camera: str
    place: Place
    shape: tuple[int, ...]


class Store(Protocol):
    """Raises ValueError for what cannot be read."""

    def episodes(self) -> list[str]:
        """Names, in order."""
        ...

    def length(self, episode: str, film: FilmPlace) -> int:
        """Frames."""
        ...

    def numbers(self, episode: str, column: str, place: Place = ()) -> np.ndarray:
        """A column, or a part of it, (T, ...)."""
        ...

    def frames(self, episode: str, films: Sequence[FilmPlace]) -> Iterator[Mapping[str, np.ndarray]]:
        """Pictures by camera, uint8 (H, W, 3)."""
        ...


class Hdf5Store:
    def __init__(self, home: Path) -> None:
        self._path = inside(home, _FILE)

    def episodes(self) -> list[str]:
        with opened(self._path) as file:
            return _in_order(file)

    def length(self, episode: str, film: FilmPlace) -> int:
        with opened(self._path) as file:
            return len(array_of(file, _name(episode, "observations", film.place), self._path))

    def numbers(self, episode: str, column: str, place: Place = ()) -> np.ndarray:
        with opened(self._path) as file:
            array = array_of(file, _name(episode, column, place), self._path)
            if array.size > _MOST_NUMBERS or array.dtype.kind not in "biuf":
                raise ValueError(f"{self._path}: {array.name} is {array.dtype} {array.shape}; it cannot be read")
            return np.asarray(array)

    def frames(self, episode: str, films: Sequence[FilmPlace]) -> Iterator[Mapping[str, np.ndarray]]:
        return frames_of(self._path, {_name(episode, "observations", film.place): film.camera for film in films})


def _name(episode: str, column: str, place: Place) -> str:
    return "/".join([episode, column, *(f"_index_{key}" if isinstance(key, int) else key for key in place)])


class TableStore:
    def __init__(self, home: Path, kind: str) -> None:
        self._home, self._kind = home, kind

    def episodes(self) -> list[str]:
        return _in_order(each.name for each in self._home.iterdir() if each.is_dir())

    def length(self, episode: str, film: FilmPlace) -> int:
        return sum(len(batch) for batch in self._batches(episode, "rewards"))

    def numbers(self, episode: str, column: str, place: Place = ()) -> np.ndarray:
        parts = [_values(_part(batch, place)) for batch in self._batches(episode, column)]
        if not parts or sum(part.size for part in parts) > _MOST_NUMBERS:
            raise ValueError(f"{self._home / episode}: {column} has no rows, or more than can be read")
        return np.concatenate(parts)

    def frames(self, episode: str, films: Sequence[FilmPlace]) -> Iterator[Mapping[str, np.ndarray]]:
        row = 0
        for batch in self._batches(episode, "observations"):
            columns = [(film, _part(batch, film.place)) for film in films]
            for here in range(len(batch)):
                yield {
                    film.camera: picture_of(_pixels(column[here].as_py(), film.shape), self._home / episode, row + here)
                    for film, column in columns
                }
            row += len(batch)

    def _batches(self, episode: str, column: str) -> Iterator[Any]:
        """The column's arrays, some rows at a time."""
        from pyarrow import ArrowException, dataset

        home = inside(self._home, episode)
        try:
            for file in sorted(home.glob(f"*.{self._kind}")):
                table = dataset.dataset(str(inside(home, file.name)), format=self._kind)
                for batch in table.to_batches(columns=[column], batch_size=_ROWS_AT_ONCE):
                    yield batch.column(0)
        except (ArrowException, OSError) as error:
            raise ValueError(f"{home}: {column} cannot be read ({str(error).splitlines()[0]})") from error


def _part(column: Any, place: Place) -> Any:
    for key in place:
        column = column.field(str(key))
    return column


def _values(column: Any) -> np.ndarray:
    """(T,), or (T, A) of lists of A numbers each."""
    from pyarrow import types

    listed = types.is_fixed_size_list(column.type)
    flat = (column.flatten() if listed else column).to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "biuf":
        raise ValueError(f"a column of {column.type} holds no numbers")
    return flat.reshape(-1, column.type.list_size) if listed else flat


def _pixels(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Of a row: the bytes of a JPEG, or numbers."""
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.array(value, np.uint8).reshape(shape)


def _in_order(names: Iterable[str]) -> list[str]:
    """Those with a number, by it."""
    numbers = {name: int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name))}
    return sorted(numbers, key=numbers.__getitem__)
