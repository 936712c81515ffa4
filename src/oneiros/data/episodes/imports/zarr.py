"""Zarr as diffusion policy writes it (github.com/real-stanford/diffusion_policy, ReplayBuffer): all episodes one after
another in data/, and where each ends in meta/episode_ends. Version 2 on disk, read by zarr 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source, continuous, numbered
from oneiros.disk import inside
from oneiros.json_file import read_json
from oneiros.records import Camera

ENDING = ".zarr"
_FPS = 10  # of what does not say
_ROWS_AT_ONCE, _MOST_NUMBERS = 16, 2**27
_COMPRESSORS = ("blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma")


def is_replay(path: Path) -> bool:
    """Whether a folder looks like one."""
    return (path / "meta" / "episode_ends" / ".zarray").is_file() and (path / "data").is_dir()


def open_zarr(path: Path, options: Options) -> Source:
    """ValueError for a folder that is none, or holds arrays that only code of others can read."""
    if not is_replay(path):
        raise ValueError(f"{path}: has no meta/episode_ends and data/, as diffusion policy's replay buffers do")
    names = sorted(each.parent.name for each in (path / "data").glob("*/.zarray"))
    arrays, unread = {}, []
    for name in names:
        try:
            arrays[name] = _array(path, f"data/{name}")
        except ValueError as error:
            unread.append(str(error))
    cameras = {name: each for name, each in arrays.items() if each.ndim == 4 and each.shape[-1] == 3}
    states = [name for name, each in arrays.items() if each.ndim == 2 and name != "action" and each.dtype.kind == "f"]
    if not cameras or "action" not in arrays or arrays["action"].ndim != 2:
        told = f" ({unread[0]})" if unread else ""
        raise ValueError(f"{path}: holds no pictures (T, H, W, 3), or no action (T, A){told}")
    ends = np.asarray(_array(path, "meta/episode_ends")).astype(np.int64)
    if len(ends) == 0 or (np.diff([0, *ends]) < 1).any() or ends[-1] > min(each.shape[0] for each in arrays.values()):
        raise ValueError(f"{path}: meta/episode_ends must rise, up to the {arrays['action'].shape[0]} rows of data")
    recordings = tuple(
        ImportedEpisode(
            name=f"episode {number}",
            task=options.task or path.stem,
            length=int(stop - start),
            images=partial(_frames, path, {name: f"observation.images.{name}" for name in cameras}, start, stop),
            actions=partial(_numbers, path, ["action"], start, stop),
            state=partial(_numbers, path, states, start, stop) if states else None,
        )
        for number, (start, stop) in enumerate(pairwise([0, *ends.tolist()]))
    )
    return Source(
        kind="zarr",
        fps=options.fps or _FPS,
        cameras=tuple(
            Camera(f"observation.images.{name}", each.shape[1], each.shape[2]) for name, each in cameras.items()
        ),
        action_spec=continuous(arrays["action"].shape[1]),
        state_names=tuple(each for name in states for each in numbered(name, arrays[name].shape[1])),
        recordings=recordings,
        unusable={},
    )


def _array(path: Path, name: str) -> Any:
    """An array of plain numbers, whose packing runs no code of others. ValueError for any other."""
    import zarr

    about = read_json(inside(path, f"{name}/.zarray"))
    kind = about.get("dtype") if isinstance(about, dict) else None
    if not isinstance(kind, str) or kind[1:2] not in "uifb" or about.get("filters"):
        raise ValueError(f"{path}: {name} is {str(kind)[:40]}, filtered or not of numbers; it cannot be read")
    packing = about.get("compressor") or {}
    if packing and packing.get("id") not in _COMPRESSORS:
        raise ValueError(
            f"{path}: {name} is packed by {str(packing.get('id'))[:40]}; write it anew with {_COMPRESSORS[0]}"
        )
    try:
        return zarr.open_array(str(inside(path, name)), mode="r", zarr_format=2)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path}: {name} cannot be read ({error})") from error


def _numbers(path: Path, names: list[str], start: int, stop: int) -> np.ndarray:
    arrays = [_array(path, f"data/{name}") for name in names]
    if (stop - start) * sum(each.shape[1] for each in arrays) > _MOST_NUMBERS:
        raise ValueError(f"{path}: {names[0]} claims more numbers than can be read")
    return np.concatenate([np.asarray(each[start:stop], np.float32) for each in arrays], axis=1)


def _frames(path: Path, names: Mapping[str, str], start: int, stop: int) -> Iterator[Mapping[str, np.ndarray]]:
    films = {camera: _array(path, f"data/{name}") for name, camera in names.items()}
    for first in range(start, stop, _ROWS_AT_ONCE):
        parts = {camera: _pixels(film[first : min(first + _ROWS_AT_ONCE, stop)]) for camera, film in films.items()}
        for row in range(len(next(iter(parts.values())))):
            yield {camera: part[row] for camera, part in parts.items()}


def _pixels(frames: np.ndarray) -> np.ndarray:
    """uint8, which some keep as floats of 0 to 255."""
    return frames if frames.dtype == np.uint8 else np.asarray(frames).round().clip(0, 255).astype(np.uint8)
