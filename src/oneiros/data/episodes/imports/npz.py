"""Archives of numpy as DreamerV3 keeps them (github.com/danijar/dreamerv3: some hundred rows a file, is_first where an
episode begins), and as CALVIN does (github.com/mees/calvin: a file a row, and which rows an episode has)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source, continuous, numbered
from oneiros.disk import inside
from oneiros.records import ActionSpec, Camera

ENDING = ".npz"
_DREAMER_FPS, _CALVIN_FPS = 15, 30
_MOST_BYTES = 2**31  # of an array
_SPANS = "ep_start_end_ids.npy"
_CALVIN = re.compile(r"episode_(\d+)\.npz")


def open_npz(path: Path, options: Options) -> Source:
    """ValueError for a folder or file of neither kind."""
    files = [path] if path.is_file() else sorted(inside(path, each.relative_to(path)) for each in path.rglob("*.npz"))
    if not files:
        raise ValueError(f"{path}: has no {ENDING} file")
    names = _names(files[0])
    if {"rgb_static", "rel_actions"} <= names:
        return _calvin(path, files, options)
    if {"image", "action", "is_first"} <= names:
        return _dreamer(path, files, options)
    raise ValueError(
        f"{files[0]}: holds {', '.join(sorted(names)[:8])}; neither image, action and is_first (DreamerV3) nor "
        "rgb_static and rel_actions (CALVIN)"
    )


def _dreamer(path: Path, files: Sequence[Path], options: Options) -> Source:
    recordings, unusable, spec, size = [], {}, None, None
    for file in files:
        name = str(file.relative_to(path)) if file != path else file.name
        try:
            image, action = _read(file, "image"), _read(file, "action")
            first = _read(file, "is_first").astype(bool)
            if image.ndim != 4 or image.shape[-1] != 3 or not len(image) == len(action) == len(first):
                raise ValueError(f"{file}: image is {image.shape}, action {action.shape}, is_first {first.shape}")
            found = _spec(action)
            spec, size = spec or found, size or image.shape[1:3]
            if size != image.shape[1:3] or found.size != spec.size or found.kind != spec.kind:
                raise ValueError(f"{file}: has other pictures or actions than the first file")
        except ValueError as error:
            unusable[name] = str(error)
            continue
        starts = sorted({0, *np.flatnonzero(first).tolist()})
        for number, (start, stop) in enumerate(pairwise([*starts, len(first)])):
            recordings.append(
                ImportedEpisode(
                    name=f"{name} {number}" if len(starts) > 1 else name,
                    task=options.task or path.stem,
                    length=stop - start,
                    images=partial(_cut, file, start, stop),
                    actions=partial(_actions, file, spec, start, stop),
                )
            )
    if spec is None or size is None:
        raise ValueError(f"{path}: {next(iter(unusable.values()))}")
    camera = Camera("observation.images.front", int(size[0]), int(size[1]))
    return Source("dreamer", options.fps or _DREAMER_FPS, (camera,), spec, (), tuple(recordings), unusable)


def _spec(action: np.ndarray) -> ActionSpec:
    """Choices where every row is of zeros but for a one, or is a whole number; else numbers."""
    if action.ndim == 1 and action.dtype.kind in "iu":
        return ActionSpec("discrete", tuple(str(each) for each in range(int(action.max(initial=0)) + 1)))
    if action.ndim != 2:
        raise ValueError(f"action is {action.dtype} {action.shape}; it must be (T, A)")
    if action.shape[1] > 1 and np.isin(action, (0, 1)).all() and (action.sum(1) <= 1).all():
        return ActionSpec("discrete", tuple(str(each) for each in range(action.shape[1])))
    return continuous(action.shape[1])


def _actions(file: Path, spec: ActionSpec, start: int, stop: int) -> np.ndarray:
    action = _read(file, "action")[start:stop]
    if spec.kind == "continuous":
        return action.astype(np.float32)
    return action.astype(np.int64) if action.ndim == 1 else action.argmax(1)


def _cut(file: Path, start: int, stop: int) -> Iterator[Mapping[str, np.ndarray]]:
    return ({"observation.images.front": frame} for frame in _read(file, "image")[start:stop])


def _calvin(path: Path, files: Sequence[Path], options: Options) -> Source:
    rows = {int(found[1]): file for file in files if (found := _CALVIN.fullmatch(file.name))}
    folder = files[0].parent
    cameras = {name: _read(files[0], name) for name in ("rgb_static", "rgb_gripper") if name in _names(files[0])}
    if (folder / _SPANS).is_file():
        spans = [(int(a), int(b) + 1) for a, b in np.load(inside(folder, _SPANS), allow_pickle=False).reshape(-1, 2)]
    else:
        numbers = np.array(sorted(rows))
        parts = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        spans = [(int(part[0]), int(part[-1]) + 1) for part in parts]
    recordings, unusable = [], {}
    for start, stop in spans:
        name = f"rows {start} to {stop - 1}"
        missing = next((row for row in range(start, stop) if row not in rows), None)
        if missing is not None:
            unusable[name] = f"{folder}: episode_{missing:07d}.npz is missing"
            continue
        here = [rows[row] for row in range(start, stop)]
        recordings.append(
            ImportedEpisode(
                name=name,
                task=options.task or path.stem,
                length=len(here),
                images=partial(_rows, here, tuple(cameras)),
                actions=partial(_stacked, here, "rel_actions"),
                state=partial(_stacked, here, "robot_obs"),
            )
        )
    return Source(
        kind="calvin",
        fps=options.fps or _CALVIN_FPS,
        cameras=tuple(
            Camera(f"observation.images.{name}", each.shape[0], each.shape[1]) for name, each in cameras.items()
        ),
        action_spec=continuous(len(_read(files[0], "rel_actions"))),
        state_names=numbered("robot", len(_read(files[0], "robot_obs"))),
        recordings=tuple(recordings),
        unusable=unusable,
    )


def _rows(files: Sequence[Path], cameras: Sequence[str]) -> Iterator[Mapping[str, np.ndarray]]:
    return ({f"observation.images.{name}": _read(file, name) for name in cameras} for file in files)


def _stacked(files: Sequence[Path], name: str) -> np.ndarray:
    return np.stack([_read(file, name) for file in files]).astype(np.float32)


def _names(file: Path) -> set[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{file}: is no readable archive ({error})") from error


def _read(file: Path, name: str) -> np.ndarray:
    """An array of the archive; nothing in it is run. ValueError where it is not there, or claims too much."""
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(f"{name}.npy").file_size > _MOST_BYTES:
                raise ValueError(f"{file}: {name} claims more than {_MOST_BYTES / 1e9:.0f} GB")
            with archive.open(f"{name}.npy") as entry:
                return np.lib.format.read_array(entry, allow_pickle=False)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError) as error:
        raise ValueError(f"{file}: {name} cannot be read ({error})") from error
