"""Reading a LeRobot dataset (v2.x and v3.0): episodes of frames, depth, labels, actions and states.

Row t of an episode holds the observation at t and the action taken at t, so the last row's action leads nowhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oneiros.data.depth import codes_to_depth
from oneiros.data.episodes.columns import Columns
from oneiros.data.episodes.damage import find_damage, mention, ranges, report
from oneiros.data.episodes.features import (
    CONFIDENCE,
    DONE,
    REWARD,
    TRUNCATED,
    action_column,
    names_of,
    outcome_columns,
    read_action_spec,
    read_cameras,
    state_column,
)
from oneiros.data.episodes.films import place_films
from oneiros.data.episodes.metadata import (
    INFO,
    DatasetMetadata,
    EpisodeFiles,
    VideoSlice,
    errors_as_value_error,
    read_metadata,
    task_of_rows,
    uncounted,
)
from oneiros.data.episodes.parquet import column_names
from oneiros.data.episodes.remote.hub import located
from oneiros.data.episodes.statistics import Statistics, of_column
from oneiros.data.episodes.stills import decode_stills
from oneiros.data.frames import resize
from oneiros.data.video import DamagedVideoError, VideoInfo, decode, frame_times, probe
from oneiros.records import ActionSpec, Camera, Outcomes

_NEEDED = ("max", "mean", "std")  # of the statistics of actions
_GAP = 2.8  # of a film's usual step
_RATE, _RATE_WHERE_COUNTED = 0.01, 0.1  # how far a film's rate may be from the dataset's


@dataclass(frozen=True)
class Episode:
    """One episode. index: the dataset's own number for it. length: rows (frames). task: the instruction."""

    index: int
    length: int
    task: str


class Dataset:
    """A LeRobot dataset opened for reading; `Dataset.open(path)`.

    episodes: the readable ones. problems: one line for each that is not. notes: what was made good, a line each.
    action_spec: None when no actions were recorded. state_names: empty when no states were. pays, ends: whether rewards
    were, and how episodes end.
    """

    path: Path
    fps: int
    episodes: tuple[Episode, ...]
    cameras: tuple[Camera, ...]
    action_spec: ActionSpec | None
    state_names: tuple[str, ...]
    problems: list[str]
    notes: list[str]

    def __init__(self, metadata: DatasetMetadata, damage: Mapping[int, str], notes: Sequence[str] = ()) -> None:
        self._metadata = metadata
        self._files = {files.index: files for files in metadata.episodes if files.index not in damage}
        self._columns = Columns()
        features = metadata.info["features"]
        self._action, self._state = action_column(features), state_column(features)
        self._outcomes = outcome_columns(features)
        self.path, self.fps = metadata.root, metadata.info["fps"]
        self.episodes = tuple(Episode(files.index, files.length, files.task) for files in self._files.values())
        self.problems = [f"episode {index}: {reason}" for index, reason in damage.items()]
        self.notes = list(notes)
        if self._outcomes:
            rows = column_names(next(iter(self._files.values())).data)
            absent = [name for name in self._outcomes if name not in rows]
            self.notes += [f"{name} is in the metadata, but not in the rows; it is left out" for name in absent]
            self._outcomes = tuple(name for name in self._outcomes if name in rows)
        statistics = self._action_statistics() if self._action else {}
        with errors_as_value_error(metadata.root, INFO):
            there = {*metadata.image_keys, *(key for files in metadata.episodes for key in files.videos)}
            self.cameras = tuple(camera for camera in read_cameras(features) if camera.name in there)
            self.state_names = names_of(features[self._state], "state") if self._state else ()
            self.action_spec = read_action_spec(features[self._action], statistics) if self._action else None

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of meta/info.json."""
        return self._metadata.info

    @property
    def totals(self) -> dict[str, int]:
        """What the metadata's own totals should be, episodes that cannot be read included."""
        episodes = self._metadata.episodes
        rows = sum(files.length + files.without_frame for files in episodes)
        return {"total_episodes": len(episodes), "total_frames": rows}

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """What the metadata say of each column and camera."""
        return self._metadata.statistics

    @property
    def uncounted(self) -> dict[str, float]:
        """Columns whose statistics are not of all rows, as a killed recorder may leave them: of how many they are."""
        if not self.info["codebase_version"].startswith("v3"):
            return {}
        return uncounted({**self.info, **self.totals}, self._metadata.statistics)

    @classmethod
    def open(cls, path: Path | str, *, strict: bool = False) -> Dataset:
        """Open a dataset folder, or one by name (see `located`); only metadata is read.

        Episodes whose files are missing or cut off are left out, with one warning that lists them.
        strict: a ValueError instead. ValueError as well when the folder is no dataset or nothing in it is readable.
        """
        metadata = read_metadata(located(Path(path)))
        if not metadata.episodes:
            raise ValueError(f"{path}: has no episodes yet")
        placed = place_films(metadata)
        metadata = placed.metadata
        damage = dict(sorted({**placed.damage, **find_damage(metadata)}.items()))
        if damage and (strict or len(damage) < len(metadata.episodes)):
            report(f"{path}: {len(damage)} of {len(metadata.episodes)} episodes cannot be read", damage, strict=strict)
        if len(damage) == len(metadata.episodes):
            which, first = ranges(damage), next(iter(damage.values()))
            raise ValueError(
                f"{path}: has no readable episode; all {len(damage)} are missing or damaged (episodes {which}: {first})"
            )
        mention(metadata.root, placed.notes)
        return cls(metadata, damage, (*placed.notes, *placed.unclaimed))

    def fingerprint(self) -> str:
        """A cheap hash of the content, not of where the folder lies: the name and size of every file and info.json,
        then (the last 8 digits) the other metadata."""
        digest, content = hashlib.sha256((self.path / INFO).read_bytes()), hashlib.sha256()
        files = [file for part in ("meta", "data", "videos") for file in (self.path / part).rglob("*.*")]
        for file in sorted(file for file in files if file.is_file()):
            name = file.relative_to(self.path)
            digest.update(f"{name} {file.stat().st_size}\n".encode())
            if name.parts[0] == "meta":
                content.update(file.read_bytes())
        return digest.hexdigest()[:16] + content.hexdigest()[:8]

    def camera(self, name: str | None = None, kind: str = "rgb") -> Camera:
        """The camera of that name, or the first one of that kind."""
        for camera in self.cameras:
            if camera.kind == kind and name in (None, camera.name):
                return camera
        names = ", ".join(camera.name for camera in self.cameras if camera.kind == kind) or "none"
        gone = name in self._metadata.video_keys and all(name != each.name for each in self.cameras)
        why = "; none of its films is there" if gone else f"; it has {names}"
        raise ValueError(f"{self.path}: has no {kind} camera{' ' + name if name else ''}{why}")

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
        if camera.name not in files.videos:
            if camera.kind != "rgb":
                raise ValueError(f"{self.path}: {camera.name} is stored as single pictures; only colour is read so")
            return decode_stills(files, camera.name, start, stop, size=(camera.height, camera.width))
        video = files.videos[camera.name]
        info, first = self._check_video(video, camera), video.first_frame
        if info.num_frames and first + stop > info.num_frames:
            raise DamagedVideoError(
                f"{video.path}: frame {info.num_frames} is missing; "
                f"the film has {info.num_frames} frames; episode {episode_index} needs {first + stop}"
            )
        return decode(video.path, first + start, first + stop, codes=camera.kind != "rgb")

    def actions(self, episode_index: int) -> np.ndarray | None:
        """One action per row: int64 (T,), bool (T, A) keys or float32 (T, A); None when none were recorded.

        Where `confidence` is 0 an action only fills the row.

        ValueError, naming row and dimension, when an action is no number.
        """
        spec = self.action_spec
        if spec is None:
            return None
        assert self._action is not None
        values = self._read_column(self._action, episode_index)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row, dimension = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"{self._find(episode_index).data}: episode {episode_index}, row {row}: action "
                f"{spec.names[dimension] if spec.kind != 'discrete' else self._action} is {values[row, dimension]}"
            )
        if spec.kind == "discrete":
            if not ((values >= 0) & (values < spec.size)).all():
                raise ValueError(
                    f"{self._find(episode_index).data}: episode {episode_index}: actions are {values.min()} to "
                    f"{values.max()}; they must be 0 to {spec.size - 1}"
                )
            return values[:, 0].astype(np.int64)
        return values > 0.5 if spec.kind == "keys" else values.astype(np.float32)

    @property
    def pays(self) -> bool:
        return REWARD in self._outcomes

    @property
    def ends(self) -> bool:
        return DONE in self._outcomes

    def outcomes(self, episode_index: int) -> Outcomes | None:
        """What came of each row's step (T,); None when neither rewards nor ends were recorded.

        The last row is valid where it is the row that ended the episode, which ViZDoom shows no picture after. Where
        the row before did, or none, the last row is but the last picture: no step, or one of which nothing is known.
        Without next.truncated every end counts as the environment's own. ValueError, naming row and column, for a
        reward or an end that is no number.
        """
        if not self._outcomes:
            return None
        found = {name: self._read_column(name, episode_index)[:, 0].astype(np.float32) for name in self._outcomes}
        for name, values in found.items():
            if not np.isfinite(values).all():
                row = int((~np.isfinite(values)).argmax())
                where = f"{self._find(episode_index).data}: episode {episode_index}, row {row}"
                raise ValueError(f"{where}: {name} is {values[row]}; it must be a finite number")
        columns = {name: torch.from_numpy(values) for name, values in found.items()}
        valid = torch.ones(self._find(episode_index).length, dtype=torch.bool)
        if DONE not in columns:
            valid[-1] = False
            return Outcomes(columns.get(REWARD), None, None, valid)
        over = columns[DONE] > 0.5
        cut = over & (columns[TRUNCATED] > 0.5) if TRUNCATED in columns else torch.zeros_like(over)
        valid[-1] = over[-1] and not over[:-1].any()
        return Outcomes(columns.get(REWARD), over & ~cut, cut, valid)

    def confidence(self, episode_index: int) -> np.ndarray | None:
        """How sure each row's action is, float32 (T,): 1 where it was recorded, 0 where it is not known, between where
        it was inferred. None where all were recorded."""
        if self.action_spec is None or CONFIDENCE not in self.info["features"]:
            return None
        return np.nan_to_num(self._read_column(CONFIDENCE, episode_index)[:, 0].astype(np.float32))

    def states(self, episode_index: int) -> np.ndarray | None:
        """The robot's own state per row, float32 (T, S); None when none were recorded."""
        return self._read_column(self._state, episode_index).astype(np.float32) if self._state else None

    def task_of_rows(self, episode_index: int) -> str:
        """What the episode is about by its rows' task_index, which may differ from what the metadata say of it."""
        return task_of_rows(self.path, self._find(episode_index).data, episode_index)

    def column(self, episode_index: int, name: str) -> np.ndarray:
        """A column of the data files, (T, n), by frame_index; missing values are NaN."""
        return self._columns.of(self._find(episode_index), name)

    def _read_column(self, name: str, episode_index: int) -> np.ndarray:
        size = math.prod(self.info["features"][name]["shape"])
        return self._columns.of(self._find(episode_index), name, size)

    def thumbnails(self, episode_index: int, camera: Camera, side: int, *, stop: int) -> np.ndarray:
        """The first rows of a colour camera, uint8 (T, side, side, 3), squeezed; quicker than whole ones."""
        files = self._find(episode_index)
        self.check_video(episode_index, camera)
        if camera.name not in files.videos:
            frames = self.stream(episode_index, camera, stop=stop)
            return np.concatenate([resize(frame[None], side, side, crop=False) for frame in frames])
        video = files.videos[camera.name]
        first = video.first_frame
        return np.stack(list(decode(video.path, first, first + stop, shrink=(side, side))))

    def gap_in_film(self, episode_index: int, camera: Camera) -> tuple[int, int] | None:
        """The first row before which the film's own clock jumps by two frames or more, and how many are skipped there;
        None where it runs evenly, or does not say."""
        files = self._find(episode_index)
        if camera.name not in files.videos:
            return None
        video = files.videos[camera.name]
        times = frame_times(video.path)[video.first_frame :][: files.length]
        steps = np.diff(times)
        usual = float(np.median(steps)) if len(steps) else 0.0
        if usual <= 0 or steps.max() < _GAP * usual:
            return None
        row = int((steps >= _GAP * usual).argmax()) + 1
        return row, round(float(steps[row - 1] / usual)) - 1

    def check_video(self, episode_index: int, camera: Camera) -> None:
        """ValueError when the camera's file is damaged, or disagrees with the metadata in size, rate or length."""
        self.stream(episode_index, camera)

    def _check_video(self, video: VideoSlice, camera: Camera) -> VideoInfo:
        info = probe(video.path)
        if (info.height, info.width) != (camera.height, camera.width):
            raise ValueError(
                f"{video.path}: frames are {info.height} x {info.width}; "
                f"{INFO} says {camera.height} x {camera.width} (height x width) for {camera.name}"
            )
        most = _RATE if video.num_frames is None else _RATE_WHERE_COUNTED
        if abs(info.fps - self.fps) > most * self.fps:
            raise ValueError(f"{video.path}: runs at {info.fps:g} fps; {INFO} says {self.fps}")
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
        """The dataset's own where actions agree with them, else counted over the rows that are numbers."""
        assert self._action is not None
        saved = self._metadata.statistics.get(self._action, {})
        size = math.prod(self.info["features"][self._action]["shape"])
        complete = all(saved.get(name, np.empty(0)).size == size and np.isfinite(saved[name]).all() for name in _NEEDED)
        partly = CONFIDENCE in self.info["features"]  # what only fills a row does not count
        if (
            not partly
            and complete
            and all(
                _agree(self._read_column(self._action, self.episodes[place].index), saved)
                for place in {0, len(self.episodes) // 2, len(self.episodes) - 1}
            )
        ):
            return saved
        if complete and not partly:
            self.notes.append(f"the statistics of {self._action} in meta/ are not of its rows; they are counted anew")
        indices = [episode.index for episode in self.episodes]
        values = np.concatenate([self._read_column(self._action, index) for index in indices])
        finite = np.isfinite(values).all(axis=1)
        if partly and (sure := np.concatenate([self._read_column(CONFIDENCE, i)[:, 0] > 0 for i in indices])).any():
            finite &= sure
        numbers = values[finite]
        if not len(numbers):
            raise ValueError(f"{self.path}: no action is a number")
        return of_column(numbers)


def _agree(values: np.ndarray, saved: Statistics) -> bool:
    """Whether statistics may be of these rows: no value lies far outside, and what moves has a spread."""
    values = values[np.isfinite(values).all(axis=1)].astype(float)
    if not len(values):
        return True
    std, high = (saved[name].ravel() for name in ("std", "max"))
    slack = 1e-3 * (1 + np.abs(values).max(axis=0))
    moved = values.max(axis=0) - values.min(axis=0)
    return bool((values <= high + slack).all() and ((moved <= slack) | (std > 1e-3 * moved)).all() and (std >= 0).all())
