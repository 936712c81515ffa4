"""Minari's datasets (minari.farama.org): metadata.json with the spaces, and episodes as HDF5, Arrow or Parquet. They
are read by h5py and pyarrow; no environment that a stranger's metadata names is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from oneiros.data.actions_of_space import spec_of
from oneiros.data.episodes.imports.minari_stores import FilmPlace, Hdf5Store, Place, Store, TableStore
from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source, numbered
from oneiros.disk import inside
from oneiros.json_file import parse_json, read_json
from oneiros.records import Camera, Outcomes

_ABOUT = "metadata.json"
_FPS = 30  # which it does not tell


def minari_home(path: Path) -> Path | None:
    """Where the metadata of a dataset of Minari lies, in the folder or in its data/; None of any other."""
    for home in (path / "data", path):
        if (home / _ABOUT).is_file():
            about = read_json(home / _ABOUT)
            if isinstance(about, dict) and "data_format" in about:
                return home
    return None


def open_minari(path: Path, options: Options) -> Source:
    """ValueError for a folder that is none, or holds no pictures."""
    home = minari_home(path)
    if home is None:
        raise ValueError(f"{path}: has no data/{_ABOUT} that tells its data_format, as Minari's datasets do")
    about = read_json(inside(home, _ABOUT))
    where = str(home / _ABOUT)
    observed, acted = (_space(about.get(f"{name}_space"), where) for name in ("observation", "action"))
    leaves = list(_leaves(observed))
    films = [
        FilmPlace(f"observation.images.{_word(place, 'front')}", place, shape) for place, shape, _ in _pictures(leaves)
    ]
    states = [(place, shape[0]) for place, shape, kind in leaves if len(shape) == 1 and kind == "f"]
    if not films:
        raise ValueError(f"{path}: its observations hold no pictures, uint8 (H, W, 3) or (H, W)")
    kind = about["data_format"]
    if kind not in ("hdf5", "arrow", "parquet"):
        raise ValueError(f"{where}: data_format is {str(kind)[:40]!r}; hdf5, arrow and parquet are read")
    store = Hdf5Store(home) if kind == "hdf5" else TableStore(home, kind)
    task, recordings, unusable = options.task or _task(about) or path.name, [], {}
    for name in store.episodes():
        try:
            length = store.length(name, films[0])
        except ValueError as error:
            unusable[name] = str(error)
            continue
        recordings.append(
            ImportedEpisode(
                name=name,
                task=task,
                length=length,
                images=partial(store.frames, name, films),
                actions=partial(_actions, store, name, acted, length - 1),
                state=partial(_state, store, name, [place for place, _ in states]) if states else None,
                outcomes=partial(_outcomes, store, name, length - 1),
            )
        )
    return Source(
        kind="minari",
        fps=options.fps or _FPS,
        cameras=tuple(Camera(film.camera, film.shape[0], film.shape[1]) for film in films),
        action_spec=spec_of(str(path), acted),
        state_names=tuple(each for place, size in states for each in numbered(_word(place, "state"), size)),
        recordings=tuple(recordings),
        unusable=unusable,
        outcomes=True,
    )


def _task(about: dict[str, Any]) -> str:
    """The environment's name, else the dataset's, else nothing."""
    try:
        told = parse_json(str(about.get("env_spec")).encode(), "env_spec")
    except ValueError:
        told = {}
    name = told.get("id") if isinstance(told, dict) else None
    return str(name or about.get("dataset_id") or "")[:200]


def _space(about: Any, where: str) -> spaces.Space[Any]:
    """A space as Minari writes it down. ValueError for what is none, or of a kind that cannot be read."""
    if isinstance(about, str):
        about = parse_json(about.encode(), where)
    try:
        kind, inner = about["type"], about.get("subspaces")
        if kind == "Dict":
            return spaces.Dict({str(key): _space(each, where) for key, each in inner.items()})
        if kind == "Tuple":
            return spaces.Tuple([_space(each, where) for each in inner])
        if kind == "Box":
            low, high = (np.array(about[bound], about["dtype"]) for bound in ("low", "high"))
            return spaces.Box(low, high, tuple(about["shape"]), np.dtype(about["dtype"]).type)
        if kind == "Discrete":
            return spaces.Discrete(int(about["n"]), start=int(about.get("start", 0)))
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(about["nvec"], start=about.get("start"))
        if kind == "MultiBinary":
            return spaces.MultiBinary(about["n"])
        if kind == "Text":
            return spaces.Text(int(about["max_length"]))
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, OverflowError) as error:
        raise ValueError(f"{where}: tells no spaces as Minari writes them ({error!r})") from None
    raise ValueError(f"{where}: tells of a space of kind {str(kind)[:40]!r}, which is not read")


def _leaves(space: spaces.Space[Any], place: Place = ()) -> Iterator[tuple[Place, tuple[int, ...], str]]:
    """Place, shape and kind of number of all parts that are arrays."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in inner:
            yield from _leaves(part, (*place, key))
    elif space.shape is not None and space.dtype is not None:
        yield place, space.shape, space.dtype.kind if space.dtype.itemsize > 1 else str(space.dtype)


def _pictures(leaves: Sequence[tuple[Place, tuple[int, ...], str]]) -> list[tuple[Place, tuple[int, ...], str]]:
    return [
        (place, shape, kind)
        for place, shape, kind in leaves
        if kind == "uint8" and (len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)))
    ]


def _word(place: Place, otherwise: str) -> str:
    return "_".join(map(str, place)).replace("/", "_") or otherwise


def _actions(store: Store, episode: str, space: spaces.Space[Any], count: int) -> np.ndarray:
    """(T - 1,) choices, or (T - 1, A)."""
    parts = [store.numbers(episode, "actions", place)[:count] for place, _, _ in _leaves(space)]
    rows = np.concatenate([part.reshape(count, -1) for part in parts], axis=1)
    if isinstance(space, spaces.Discrete):
        return rows[:, 0].astype(np.int64) - space.start
    return rows if isinstance(space, spaces.MultiBinary) else rows.astype(np.float32)


def _state(store: Store, episode: str, places: Sequence[Place]) -> np.ndarray:
    return np.concatenate([store.numbers(episode, "observations", place) for place in places], 1).astype(np.float32)


def _outcomes(store: Store, episode: str, count: int) -> Outcomes:
    reward, ended, cut = (
        torch.from_numpy(np.asarray(store.numbers(episode, name)[:count]).copy())
        for name in ("rewards", "terminations", "truncations")
    )
    if not len(reward) == len(ended) == len(cut) == count:
        raise ValueError(f"{episode}: has {count} steps, {len(reward)} rewards and {len(ended)} terminations")
    return Outcomes(reward.float(), ended.bool(), cut.bool() & ~ended.bool(), torch.ones(count, dtype=torch.bool))
