"""Which kind a source is, found out by looking."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from oneiros.data.episodes.imports.recording import Options, Source
from oneiros.data.episodes.metadata import INFO
from oneiros.data.episodes.remote.hub import located

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
Kind = Literal["films", "hdf5", "minari", "zarr", "npz", "lerobot"]


def open_source(path: Path, options: Options, kind: Kind | None = None) -> Source:
    """The episodes of a source; nothing of it is changed. kind: None = what it looks like.

    ValueError for a source that is not there, of no known kind, or without an episode.
    """
    path = located(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    kind = kind or _kind(path)
    if kind == "lerobot":
        from oneiros.data.episodes.imports.lerobot import open_lerobot

        source = open_lerobot(path, options)
    elif kind == "hdf5":
        from oneiros.data.episodes.imports.hdf5 import open_hdf5

        source = open_hdf5(path, options)
    elif kind == "minari":
        from oneiros.data.episodes.imports.minari import open_minari

        source = open_minari(path, options)
    elif kind == "zarr":
        from oneiros.data.episodes.imports.zarr import open_zarr

        source = open_zarr(path, options)
    elif kind == "npz":
        from oneiros.data.episodes.imports.npz import open_npz

        source = open_npz(path, options)
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
    from oneiros.data.episodes.imports.minari import minari_home
    from oneiros.data.episodes.imports.zarr import is_replay

    if path.is_dir() and _with(path, ".lance"):
        raise ValueError(
            f"{path}: is kept in Lance, which is not read here; write each table as parquet with the package pylance, "
            "pyarrow.parquet.write_table(lance.dataset(TABLE).to_table(), FILE), into the places of a v3.0 dataset"
        )
    if (path / INFO).is_file():
        return "lerobot"
    if minari_home(path):
        return "minari"
    if path.is_dir() and is_replay(path):
        return "zarr"
    if path.suffix.lower() == ".npz" or (path.is_dir() and _with(path, ".npz")):
        return "npz"
    if path.suffix.lower() in ENDINGS or (path.is_dir() and any(_with(path, ending) for ending in ENDINGS)):
        return "hdf5"
    if path.is_dir() and find_films(path):
        return "films"
    if path.is_file():
        from oneiros.data.episodes.imports.films import FILMS, GIF

        if path.suffix.lower() in (*FILMS, GIF):
            return "films"
    _explain(path)
    raise ValueError(
        f"{path}: is of no kind that is known here: a LeRobot dataset, films or folders of pictures, HDF5 of robomimic "
        "or ALOHA, Minari, zarr of diffusion policy, npz of DreamerV3 or CALVIN"
    )


def _explain(path: Path) -> None:
    """ValueError for what is nearly of a kind."""
    from oneiros.data.episodes.imports.films import TABLES

    if path.is_file() and path.suffix.lower() in _ARCHIVES:
        raise ValueError(f"{path}: is an archive; unpack it, and import the folder")
    lonely = next((each for ending in TABLES for each in path.rglob(f"*{ending}")), None) if path.is_dir() else None
    if lonely is not None:
        raise ValueError(f"{lonely}: is a table of actions, but nowhere in {path} is a film or a folder of pictures")


def _with(path: Path, ending: str) -> bool:
    return next(path.rglob(f"*{ending}"), None) is not None
