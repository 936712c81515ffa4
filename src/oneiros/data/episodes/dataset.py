"""Reading a LeRobot dataset (v2.x and v3.0): episodes of frames, depth, labels, actions and states.

Row t of an episode holds the observation at t and the action taken at t, so the last row's action leads nowhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from oneiros.data.depth import codes_to_depth
from oneiros.data.episodes.damage import find_damage, report
from oneiros.data.episodes.features import ACTION, STATE, flat_names, read_action_spec, read_cameras
from oneiros.data.episodes.metadata import (
    INFO,
    DatasetMetadata,
    EpisodeFiles,
    errors_as_value_error,
    read_metadata,
    uncounted,
)
from oneiros.data.episodes.parquet import read_table
from oneiros.data.episodes.statistics import Statistics, of_column
from oneiros.data.video import DamagedVideoError, VideoInfo, decode, probe
from oneiros.records import ActionSpec, Camera

_NEEDED = ("max", "mean", "std")  # of the statistics of actions


@dataclass(frozen=True)
class Episode:
    """One episode. index: the dataset's own number for it. length: rows (frames). task: the instruction."""

    index: int
    length: int
    task: str


class Dataset:
    """A LeRobot dataset opened for reading; `Dataset.open(path)`.

    episodes: the readable ones. problems: one line for each that is not.
    action_spec: None when no actions were recorded. state_names: empty when no states were.
    """

    path: Path
    fps: int
    episodes: tuple[Episode, ...]
    cameras: tuple[Camera, ...]
    action_spec: ActionSpec | None
    state_names: tuple[str, ...]
    problems: list[str]

    def __init__(self, metadata: DatasetMetadata, damage: dict[int, str]) -> None:
        self._metadata = metadata
        self._files = {files.index: files for files in metadata.episodes if files.index not in damage}
        self._columns: dict[str, tuple[Path, np.ndarray, pa.Array]] = {}
        features = metadata.info["features"]
        self.path, self.fps = metadata.root, metadata.info["fps"]
        self.episodes = tuple(Episode(files.index, files.length, files.task) for files in self._files.values())
        self.problems = [f"episode {index}: {reason}" for index, reason in damage.items()]
        statistics = self._action_statistics() if ACTION in features else {}
        with errors_as_value_error(metadata.root, INFO):
            self.cameras = read_cameras(features)
            self.state_names = _names_of(features[STATE]) if STATE in features else ()
            self.action_spec = read_action_spec(features[ACTION], statistics) if ACTION in features else None

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of meta/info.json."""
        return self._metadata.info

    @property
    def totals(self) -> dict[str, int]:
        """What the metadata's own totals should be, episodes that cannot be read included."""
        episodes = self._metadata.episodes
        return {"total_episodes": len(episodes), "total_frames": sum(files.length for files in episodes)}

    @property
    def uncounted(self) -> dict[str, float]:
        """Columns whose statistics are not of all rows, as a killed recorder may leave them: of how many they are."""
        if not self.info["codebase_version"].startswith("v3"):
            return {}
        return uncounted({**self.info, **self.totals}, self._metadata.statistics)

    @classmethod
    def open(cls, path: Path | str, *, strict: bool = False) -> Dataset:
        """Open a dataset folder; only metadata is read.

        Episodes whose files are missing or cut off are left out, with one warning that lists them.
        strict: a ValueError instead. ValueError as well when the folder is no dataset or nothing in it is readable.
        """
        metadata = read_metadata(Path(path))
        if not metadata.episodes:
            raise ValueError(f"{path}: has no episodes yet")
        damage = find_damage(metadata)
        if damage:
            report(f"{path}: {len(damage)} of {len(metadata.episodes)} episodes cannot be read", damage, strict=strict)
        if len(damage) == len(metadata.episodes):
            raise ValueError(f"{path}: has no readable episode; all {len(damage)} are missing or damaged")
        return cls(metadata, damage)

    def fingerprint(self) -> str:
        """A cheap hash of the content: the metadata and every file's name and size, not where the folder lies."""
        digest = hashlib.sha256((self.path / INFO).read_bytes())
        files = [file for part in ("meta", "data", "videos") for file in (self.path / part).rglob("*.*")]
        for file in sorted(file for file in files if file.is_file()):
            digest.update(f"{file.relative_to(self.path)} {file.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]

    def camera(self, name: str | None = None, kind: str = "rgb") -> Camera:
        """The camera of that name, or the first one of that kind."""
        for camera in self.cameras:
            if camera.kind == kind and name in (None, camera.name):
                return camera
        names = ", ".join(camera.name for camera in self.cameras if camera.kind == kind) or "none"
        stills = [key for key, feature in self.info["features"].items() if feature["dtype"] == "image"]
        why = f" ({', '.join(stills)}: stored as single images; only video is read)" if stills else ""
        raise ValueError(f"{self.path}: has no {kind} camera{' ' + name if name else ''}; it has {names}{why}")

    def frames(
        self, episode_index: int, *, camera: str | None = None, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Rows start to stop (all) as uint8 (T, H, W, 3)."""
        return self._read(episode_index, self.camera(camera), start, stop)

    def depth(
        self, episode_index: int, *, camera: str | None = None, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Rows start to stop (all) as float32 (T, H, W) in metres."""
        found = self.camera(camera, "depth")
        return codes_to_depth(self._read(episode_index, found, start, stop), found)

    def labels(
        self, episode_index: int, *, camera: str | None = None, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Rows start to stop (all) as uint16 (T, H, W)."""
        return self._read(episode_index, self.camera(camera, "labels"), start, stop)

    def stream(
        self, episode_index: int, camera: Camera, *, start: int = 0, stop: int | None = None
    ) -> Iterator[np.ndarray]:
        """The same one frame at a time, as stored: uint8 (H, W, 3), or uint16 (H, W) codes for depth and labels.

        ValueError at once where the film is damaged, or disagrees with the metadata in size, rate or length.
        """
        files = self._find(episode_index)
        stop = files.length if stop is None else stop
        if not 0 <= start <= stop <= files.length:
            raise ValueError(
                f"{self.path}: episode {episode_index} has rows 0 to {files.length - 1}, not {start}:{stop}"
            )
        video = files.videos[camera.name]
        info, first = self._check_video(video.path, camera), video.first_frame
        if info.num_frames and first + stop > info.num_frames:
            raise DamagedVideoError(
                f"{video.path}: frame {info.num_frames} is missing; "
                f"the film has {info.num_frames} frames; episode {episode_index} needs {first + stop}"
            )
        return decode(video.path, first + start, first + stop, fps=self.fps, codes=camera.kind != "rgb")

    def actions(self, episode_index: int) -> np.ndarray | None:
        """One action per row: int64 (T,), bool (T, A) keys or float32 (T, A); None when none were recorded.

        ValueError, naming row and dimension, when an action is no number.
        """
        spec = self.action_spec
        if spec is None:
            return None
        values = self.column(episode_index, ACTION)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row, dimension = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"{self._find(episode_index).data}: episode {episode_index}, row {row}: action "
                f"{spec.names[dimension] if spec.kind != 'discrete' else ACTION} is {values[row, dimension]}"
            )
        if spec.kind == "discrete":
            if not ((values >= 0) & (values < spec.size)).all():
                raise ValueError(
                    f"{self._find(episode_index).data}: episode {episode_index}: actions are {values.min()} to "
                    f"{values.max()}; they must be 0 to {spec.size - 1}"
                )
            return values[:, 0].astype(np.int64)
        return values > 0.5 if spec.kind == "keys" else values.astype(np.float32)

    def states(self, episode_index: int) -> np.ndarray | None:
        """The robot's own state per row, float32 (T, S); None when none were recorded."""
        return self.column(episode_index, STATE).astype(np.float32) if self.state_names else None

    def column(self, episode_index: int, name: str) -> np.ndarray:
        """A column of the data files, (T, n); missing values are NaN."""
        files = self._find(episode_index)
        numbers, column = self._whole_column(files.data, name)
        rows = np.flatnonzero(numbers == episode_index)
        if len(rows) != files.length:
            raise ValueError(
                f"{files.data}: episode {episode_index} has {len(rows)} rows; the metadata says {files.length}"
            )
        values = _to_numpy(column.take(pa.array(rows)), files)
        size = math.prod(self.info["features"].get(name, {"shape": [1]})["shape"])
        if values.shape[1] != size:
            raise ValueError(f"{files.data}: {name} has {values.shape[1]} numbers a row; {INFO} says {size}")
        return values

    def _whole_column(self, path: Path, name: str) -> tuple[np.ndarray, pa.Array]:
        """A file's episode numbers and one of its columns. The last file is kept: many episodes share it."""
        if self._columns.get(name, (None,))[0] != path:
            table = read_table(path, lambda each: each in ("episode_index", name))
            if missing := {"episode_index", name} - set(table.column_names):
                raise ValueError(f"{path}: has no column {', '.join(missing)}")
            for each in table.schema:
                if not _is_numbers(each.type):
                    raise ValueError(f"{path}: column {each.name} is {each.type}; it must hold numbers")
            self._columns[name] = (path, table["episode_index"].to_numpy(), table[name].combine_chunks())
        return self._columns[name][1:]

    def check_video(self, episode_index: int, camera: Camera) -> None:
        """ValueError when the camera's file is damaged, or disagrees with the metadata in size, rate or length."""
        self.stream(episode_index, camera)

    def _check_video(self, path: Path, camera: Camera) -> VideoInfo:
        info = probe(path)
        if (info.height, info.width) != (camera.height, camera.width):
            raise ValueError(
                f"{path}: frames are {info.height} x {info.width}; "
                f"{INFO} says {camera.height} x {camera.width} (height x width) for {camera.name}"
            )
        if abs(info.fps - self.fps) > 0.01 * self.fps:
            raise ValueError(f"{path}: runs at {info.fps:g} fps; {INFO} says {self.fps}")
        return info

    def _find(self, episode_index: int) -> EpisodeFiles:
        if episode_index not in self._files:
            raise ValueError(f"{self.path}: has no readable episode {episode_index}")
        return self._files[episode_index]

    def _read(self, episode_index: int, camera: Camera, start: int, stop: int | None) -> np.ndarray:
        stop = self._find(episode_index).length if stop is None else stop
        stream = self.stream(episode_index, camera, start=start, stop=stop)  # before memory is taken
        shape = (stop - start, camera.height, camera.width)
        rgb = camera.kind == "rgb"
        frames = np.empty((*shape, 3) if rgb else shape, np.uint8 if rgb else np.uint16)
        for index, frame in enumerate(stream):
            frames[index] = frame
        return frames

    def _action_statistics(self) -> Statistics:
        """The dataset's own, else counted over the rows that are numbers."""
        saved, size = self._metadata.statistics.get(ACTION, {}), np.prod(self.info["features"][ACTION]["shape"])
        if all(saved.get(name, np.empty(0)).size == size and np.isfinite(saved[name]).all() for name in _NEEDED):
            return saved
        values = np.concatenate([self.column(episode.index, ACTION) for episode in self.episodes])
        numbers = values[np.isfinite(values).all(axis=1)]
        if not len(numbers):
            raise ValueError(f"{self.path}: no action is a number")
        return of_column(numbers)


def _is_numbers(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _to_numpy(column: pa.Array, files: EpisodeFiles) -> np.ndarray:
    width = 1
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
        values = column.flatten()
        if column.null_count or not len(column) or len(values) % len(column):
            raise ValueError(f"{files.data}: episode {files.index} has rows of different lengths")
        column, width = values, len(values) // len(column)
    return column.to_numpy(zero_copy_only=False).reshape(-1, width)


def _names_of(feature: dict) -> tuple[str, ...]:
    size = int(np.prod(feature["shape"]))
    names = flat_names(feature)
    return names if len(names) == size else tuple(f"state_{i}" for i in range(size))
