"""Which kind a source is, found out by looking."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from oneiros.data.episodes.imports.recording import Options, Source
from oneiros.data.episodes.metadata import INFO

Kind = Literal["films", "hdf5", "lerobot"]


def open_source(path: Path, options: Options, kind: Kind | None = None) -> Source:
    """The episodes of a source; nothing of it is changed. kind: None = what it looks like.

    ValueError for a source that is not there, of no known kind, or without an episode.
    """
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    kind = kind or _kind(path)
    if kind == "lerobot":
        from oneiros.data.episodes.imports.lerobot import open_lerobot

        source = open_lerobot(path, options)
    elif kind == "hdf5":
        from oneiros.data.episodes.imports.hdf5 import open_hdf5

        source = open_hdf5(path, options)
    else:
        from oneiros.data.episodes.imports.films import open_films

        source = open_films(path, options)
    if not source.recordings:
        first = next(iter(source.unusable.values()), "holds no episode")
        raise ValueError(f"{path}: none of its episodes can be imported ({first})")
    return source


def _kind(path: Path) -> Kind:
    from oneiros.data.episodes.imports.films import find_films
    from oneiros.data.episodes.imports.hdf5 import ENDINGS

    if (path / INFO).is_file():
        return "lerobot"
    if path.suffix.lower() in ENDINGS or (path.is_dir() and any(_with(path, ending) for ending in ENDINGS)):
        return "hdf5"
    if path.is_dir() and find_films(path):
        return "films"
    if path.is_file():
        from oneiros.data.episodes.imports.films import FILMS, GIF

        if path.suffix.lower() in (*FILMS, GIF):
            return "films"
    raise ValueError(
        f"{path}: is of no kind that is known here: a LeRobot dataset, films or folders of pictures, HDF5 of robomimic "
        "or ALOHA"
    )


def _with(path: Path, ending: str) -> bool:
    return next(path.rglob(f"*{ending}"), None) is not None
