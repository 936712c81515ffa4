"""HDF5 as robomimic writes it (all demonstrations in one file), and as ALOHA and ACT do (a file an episode)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source, continuous, numbered
from oneiros.data.video import MOST_PIXELS, DamagedVideoError
from oneiros.disk import inside
from oneiros.records import Camera, Outcomes

ENDINGS = (".hdf5", ".h5")
_ROBOMIMIC_FPS, _ALOHA_FPS = 20, 50  # where the file says nothing
_MOST_NUMBERS = 2**27  # of an episode's actions or states
_ROWS_AT_ONCE = 16


def open_hdf5(path: Path, options: Options) -> Source:
    """ValueError for a file that cannot be read or is of neither kind, or leads to other files."""
    files = [path] if path.is_file() else [inside(path, each.relative_to(path)) for each in _files(path)]
    with opened(files[0]) as file:
        if "data" in file:
            return _robomimic(path, file, options)
        if "observations" in file and "action" in file:
            return _aloha(path, files, options)
        raise ValueError(f"{files[0]}: has neither data/demo_0 (robomimic) nor observations and action (ALOHA)")


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.suffix.lower() in ENDINGS)


def _robomimic(path: Path, file: Any, options: Options) -> Source:
    names = sorted(file["data"], key=lambda name: (len(name), name))
    first = f"data/{names[0]}"
    seen = _arrays(file, f"{first}/obs") if f"{first}/obs" in file else {}
    cameras = {name: array for name, array in seen.items() if _is_film(array)}
    states = [name for name, array in seen.items() if array.ndim == 2 and array.dtype.kind == "f"]
    if not cameras:
        raise ValueError(f"{path}: its demonstrations hold no pictures (T, H, W, 3); render them into it first")
    recordings = []
    outcomes = all(f"{first}/{name}" in file for name in ("rewards", "dones"))
    for name in names:
        place = f"data/{name}"
        recordings.append(
            ImportedEpisode(
                name=name,
                task=options.task or _task(file, path),
                length=len(array_of(file, f"{place}/actions", path)),
                images=partial(frames_of, path, {f"{place}/obs/{key}": f"observation.images.{key}" for key in cameras}),
                actions=partial(_numbers, path, [f"{place}/actions"]),
                state=partial(_numbers, path, [f"{place}/obs/{key}" for key in states]) if states else None,
                outcomes=partial(_outcomes, path, place) if outcomes else None,
            )
        )
    return Source(
        kind="robomimic",
        fps=options.fps or _rate(file),
        cameras=tuple(_camera(key, array.shape[1:3]) for key, array in cameras.items()),
        action_spec=continuous(array_of(file, f"{first}/actions", path).shape[1]),
        state_names=tuple(each for key in states for each in numbered(key, seen[key].shape[1])),
        recordings=tuple(recordings),
        unusable={},
        outcomes=outcomes,
    )


def _aloha(path: Path, files: list[Path], options: Options) -> Source:
    recordings, unusable = [], {}
    shape = None
    for file in files:
        name = str(file.relative_to(path)) if file != path else file.name
        try:
            with opened(file) as episode:
                films = _arrays(episode, "observations/images")
                action, position = (array_of(episode, key, file) for key in ("action", "observations/qpos"))
                found = {key: _size(film, file) for key, film in films.items()}, action.shape[1], position.shape[1]
                length = len(action)
        except ValueError as error:
            unusable[name] = str(error)
            continue
        shape = shape or found
        if found != shape or not found[0]:
            unusable[name] = f"{file}: has other cameras or numbers than the first episode"
            continue
        keys = {f"observations/images/{key}": f"observation.images.{key}" for key in found[0]}
        recordings.append(
            ImportedEpisode(
                name=name,
                task=options.task or path.stem,
                length=length,
                images=partial(frames_of, file, keys),
                actions=partial(_numbers, file, ["action"]),
                state=partial(_numbers, file, ["observations/qpos"]),
            )
        )
    if shape is None:
        raise ValueError(f"{path}: {next(iter(unusable.values()))}")
    sizes, actions, states = shape
    return Source(
        kind="aloha",
        fps=options.fps or _ALOHA_FPS,
        cameras=tuple(_camera(key, size) for key, size in sizes.items()),
        action_spec=continuous(actions),
        state_names=numbered("qpos", states),
        recordings=tuple(recordings),
        unusable=unusable,
    )


def opened(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: is no readable HDF5 ({error})") from error


def _arrays(file: Any, group: str) -> dict[str, Any]:
    return {name: array_of(file, f"{group}/{name}", Path(file.filename)) for name in file.get(group, ())}


def array_of(file: Any, name: str, path: Path) -> Any:
    """The array of that name, whose data lie in this file. ValueError otherwise."""
    import h5py

    parts = name.split("/")
    for end in range(1, len(parts) + 1):
        above = "/".join(parts[:end])
        link: Any = file.get(above, getlink=True) if above in file else None
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(
                f"{path}: {name} leads to another file, {str(link.filename)[:80]}; put a copy in its place"
            )
    array = file.get(name)
    if not isinstance(array, h5py.Dataset) or not array.ndim:
        raise ValueError(f"{path}: has no array {name}")
    if array.is_virtual or array.external:
        raise ValueError(f"{path}: {name} keeps its data in other files; put a copy in its place")
    return array


def _outcomes(path: Path, place: str) -> Outcomes:
    """What robomimic kept of each action: `dones` is 1 where the task was done, or the demonstration over."""
    with opened(path) as file:
        columns = [array_of(file, f"{place}/{name}", path) for name in ("rewards", "dones")]
        if sum(column.size for column in columns) > _MOST_NUMBERS:
            raise ValueError(f"{path}: {place}/rewards claims more numbers than can be read")
        rewards, done = (np.asarray(column, np.float32).reshape(-1) for column in columns)
    if len(rewards) != len(done):
        raise ValueError(f"{path}: {place} has {len(rewards)} rewards and {len(done)} dones")
    ended = torch.from_numpy(done > 0.5)
    return Outcomes(torch.from_numpy(rewards), ended, torch.zeros_like(ended), torch.ones_like(ended))


def _numbers(path: Path, names: list[str]) -> np.ndarray:
    with opened(path) as file:
        arrays = [array_of(file, name, path) for name in names]
        if sum(array.size for array in arrays) > _MOST_NUMBERS:
            raise ValueError(f"{path}: {names[0]} claims more numbers than can be read")
        return np.concatenate([np.asarray(array, np.float32) for array in arrays], axis=1)


def frames_of(path: Path, names: Mapping[str, str]) -> Iterator[Mapping[str, np.ndarray]]:
    with opened(path) as file:
        films = {camera: array_of(file, name, path) for name, camera in names.items()}
        length = min(len(film) for film in films.values())
        for start in range(0, length, _ROWS_AT_ONCE):
            parts = {camera: film[start : start + _ROWS_AT_ONCE] for camera, film in films.items()}
            for row in range(min(_ROWS_AT_ONCE, length - start)):
                yield {camera: picture_of(part[row], path, start + row) for camera, part in parts.items()}


def picture_of(frame: np.ndarray, path: Path, row: int) -> np.ndarray:
    """A frame in colour, uint8 (H, W, 3): of one in grey, (H, W) or (H, W, 1), or of a JPEG, padded with zeros."""
    if frame.ndim > 1:
        grey = frame if frame.ndim == 3 else frame[..., None]
        return grey if grey.shape[-1] == 3 else grey[..., :1].repeat(3, -1)
    try:
        with Image.open(io.BytesIO(np.asarray(frame, np.uint8).tobytes()), formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DamagedVideoError(f"{path}: row {row}: claims {image.height} x {image.width} pixels")
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise DamagedVideoError(f"{path}: row {row}: its picture cannot be decoded ({error})") from error


def _is_film(array: Any) -> bool:
    return array.ndim == 4 and array.shape[-1] == 3 and array.dtype == np.uint8


def _size(film: Any, path: Path) -> tuple[int, int]:
    if _is_film(film):
        return film.shape[1], film.shape[2]
    if film.ndim not in (1, 2) or not len(film):
        raise ValueError(f"{path}: {film.name} is {film.dtype} {film.shape}; it must be (T, H, W, 3), or JPEG files")
    return picture_of(film[0], path, 0).shape[:2]


def _camera(key: str, size: Any) -> Camera:
    return Camera(f"observation.images.{key.replace('/', '_')}", int(size[0]), int(size[1]))


def _env_args(file: Any) -> dict[str, Any]:
    try:
        found = json.loads(file["data"].attrs.get("env_args", "{}"))
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _rate(file: Any) -> int:
    rate = (_env_args(file).get("env_kwargs") or {}).get("control_freq")
    return int(rate) if isinstance(rate, int | float) and 1 <= rate <= 1000 else _ROBOMIMIC_FPS


def _task(file: Any, path: Path) -> str:
    return str(_env_args(file).get("env_name") or path.stem)
