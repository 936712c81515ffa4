"""Recording a LeRobot dataset (v3.0), episode by episode, so that nothing complete is ever lost.

Frames are encoded as they come. Everything a finished episode changes is first written whole under `.partial`, then
renamed into place, the table of episodes near the end: a killed recorder or a full disk costs the episode under way and
no other. Files only ever grow at their end, so what the table says of earlier episodes stays true at every moment.

Episodes share files, as LeRobot wants it. The files of one number (data, videos, table of episodes) hold the same
episodes. They are rewritten for each, so a new number is begun now and then, and by every session of recording.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av.error
import numpy as np
import pyarrow as pa

from oneiros.data.episodes.episode_writer import EpisodeWriter, RecordedEpisode, new_episode, save_error
from oneiros.data.episodes.features import CONFIDENCE, REWARD
from oneiros.data.episodes.format import (
    CHUNKS_SIZE,
    DATA_FILE_MB,
    VIDEO_FILE_MB,
    RecordingFormat,
    check_same_format,
    new_info,
    totals,
)
from oneiros.data.episodes.metadata import (
    DATA,
    EPISODES,
    INFO,
    STATS,
    TASKS,
    VIDEO,
    count_statistics,
    errors_as_value_error,
    read_episode_rows,
    read_info,
    read_metadata,
    read_tasks,
    uncounted,
)
from oneiros.data.episodes.parquet import row_groups
from oneiros.data.episodes.statistics import Statistics, check_combinable, combine, of_column
from oneiros.data.episodes.tables import (
    data_schema,
    data_table,
    plain,
    write_data,
    write_episodes,
    write_json,
    write_tasks,
)
from oneiros.data.video import join
from oneiros.disk import Batch, inside, locked
from oneiros.records import ActionSpec, Camera

EPISODES_PER_FILE = 100

_PARTIAL, _LOCK = ".partial", ".lock"


class Recordable(Protocol):
    """What can be recorded: an environment, or a player's game. fps is rounded to whole frames a second."""

    @property
    def fps(self) -> float: ...

    @property
    def cameras(self) -> Sequence[Camera]: ...

    @property
    def action_spec(self) -> ActionSpec | None: ...

    @property
    def state_names(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class _Part:
    """The files of one number, still growing: an episode's rows of data and its row in the table of episodes.

    foreign: see `RecordedEpisode`.
    """

    number: int
    tables: tuple[pa.Table, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    foreign: bool = False

    @property
    def place(self) -> dict[str, int]:
        return {"chunk_index": self.number // CHUNKS_SIZE, "file_index": self.number % CHUNKS_SIZE}

    @property
    def num_frames(self) -> int:
        return sum(table.num_rows for table in self.tables)


class DatasetWriter:
    """Writes a new dataset folder, or appends to one after checking that fps, cameras, actions and states agree.

        with DatasetWriter(path, fps=35, cameras=cameras, action_spec=spec) as writer:
            with writer.episode(task="find the exit") as episode:
                episode.add(images={"observation.images.front": frame}, action=2)

    confidence: for episodes whose actions are not all known, see `EpisodeWriter.add`.

    Raises ValueError when the folder is something else, or a dataset of something else, and OSError when the disk is
    full or another recorder is at work in the folder.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: int,
        cameras: Sequence[Camera],
        action_spec: ActionSpec | None,
        state_names: Sequence[str] = (),
        outcomes: bool = False,
        robot_type: str = "unknown",
        confidence: bool = False,
    ) -> None:
        """outcomes: also keep what steps paid, and how episodes end. A dataset that was begun without goes on without
        (see `format.outcomes`)."""
        if int(fps) != fps or fps < 1:
            raise ValueError(f"fps is {fps}; a LeRobot dataset needs a whole number above 0")
        self.path = Path(path)
        outcomes = outcomes and self._has_outcomes()
        names = tuple(state_names)
        self.format = RecordingFormat(int(fps), tuple(cameras), action_spec, names, outcomes, confidence)
        for camera in self.format.cameras:
            inside(self.path, camera.name)  # names of folders and files
        self._info = new_info(self.format, robot_type)
        self._schema = data_schema(self._info["features"])
        self._tasks: list[str] = []
        self._statistics: dict[str, Statistics] = {}
        self._part = _Part(0)
        self._lock = _lock(self.path)
        try:
            if (self.path / INFO).exists():
                with errors_as_value_error(self.path, "meta"):
                    self._continue()
            else:
                self._begin()
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(
        cls,
        env: Recordable,
        path: Path | str,
        *,
        outcomes: bool = False,
        robot_type: str = "unknown",
        confidence: bool = False,
        lossless: bool = False,
    ) -> DatasetWriter:
        """A writer of what `env` shows and what is done in it. outcomes: and of what it pays, and when it ends.
        robot_type: what it is called in the dataset. confidence: as above; a dataset that was begun with goes on with.
        lossless: keep colour without loss."""
        path = Path(path)
        begun = (path / INFO).exists() and CONFIDENCE in read_info(path)["features"]
        return cls(
            path,
            fps=max(1, round(env.fps)),
            cameras=[replace(each, lossless=lossless and each.kind == "rgb") for each in env.cameras],
            action_spec=env.action_spec,
            state_names=env.state_names,
            outcomes=outcomes,
            robot_type=robot_type,
            confidence=confidence or begun,
        )

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_episodes(self) -> int:
        """Complete episodes in the dataset, those of earlier sessions included."""
        return self._info["total_episodes"]

    def close(self) -> None:
        """Let go of the folder. Every finished episode is on disk already."""
        if not self._lock.closed:
            shutil.rmtree(self.path / _PARTIAL, ignore_errors=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            self._lock.close()

    @contextmanager
    def episode(self, *, task: str) -> Iterator[EpisodeWriter]:
        """Record one episode: leaving the block saves it, an exception inside drops it and nothing else."""
        with new_episode(self.format, self.scratch / "episode", self._name) as episode:
            yield episode
            self.append(episode.finish(task))

    def append(self, episode: RecordedEpisode) -> None:
        """Save the next episode, which may have been recorded apart. Raises OSError when the disk is full."""
        try:
            self._save(episode)
        except (av.error.FFmpegError, OSError) as error:
            raise save_error(self._name, error) from error

    @property
    def scratch(self) -> Path:
        """A folder for what grows meanwhile; gone when the writer is closed."""
        return self.path / _PARTIAL

    @property
    def _name(self) -> str:
        return f"{self.path}: episode {self.num_episodes}"

    def _has_outcomes(self) -> bool:
        """Whether the dataset keeps outcomes, or is yet to be begun."""
        return not (self.path / INFO).exists() or REWARD in read_info(self.path)["features"]

    def _begin(self) -> None:
        strangers = sorted(path.name for path in self.path.iterdir() if path.name not in (_PARTIAL, _LOCK, "meta"))
        if any((self.path / "meta").glob("*")):  # an empty one is what a recorder left that was killed at its beginning
            strangers.append("meta")
        if strangers:
            raise ValueError(f"{self.path}: is no LeRobot dataset but holds {strangers[0]}; name a new or empty folder")
        batch = Batch(self.path, self.path / _PARTIAL / "batch")
        try:
            write_json(batch.new(INFO), self._info)
            batch.publish()
        except OSError as error:
            raise save_error(f"{self.path}: a new dataset", error) from error

    def _continue(self) -> None:
        """Take up an existing dataset where it ends."""
        info = read_info(self.path)
        if not info["codebase_version"].startswith("v3"):
            raise ValueError(f"{self.path}: is a {info['codebase_version']} dataset; only v3.0 can be appended to")
        if info["data_path"] != DATA or info.get("video_path") not in (None, VIDEO):
            raise ValueError(
                f"{self.path / INFO}: data_path and video_path are not those of LeRobot; nothing is appended"
            )
        check_same_format(self.path, self.format, info["features"], self._info["features"], info["fps"])
        rows = read_episode_rows(self.path)
        num_frames = rows[-1]["dataset_to_index"] if rows else 0
        self._tasks, self._statistics = read_tasks(self.path), dict(read_metadata(self.path).statistics)
        check_combinable(self._statistics, str(self.path / STATS))
        self._info = {**info, **totals(len(rows), num_frames, len(self._tasks))}
        self._part = _Part(1 + max((_last_number(row, info["chunks_size"]) for row in rows), default=-1))
        if rows:
            self._drop_unfinished(DATA.format(**_data_place(rows[-1])), num_frames)
        if rows and (self._info != info or not self._statistics or uncounted(self._info, self._statistics)):
            self._count_anew()

    def _count_anew(self) -> None:
        """Mend what a recorder left that was killed after renaming the table of episodes, and before the rest."""
        self._statistics |= count_statistics(self.path)
        with self._mending() as batch:
            write_json(batch.new(STATS), {name: plain(values) for name, values in self._statistics.items()})
            write_json(batch.new(INFO), self._info)

    def _drop_unfinished(self, name: str, num_frames: int) -> None:
        """Undo what a recorder left that was killed in the middle of renaming: rows no episode claims."""
        tables = row_groups(inside(self.path, name))
        kept = [table for table in tables if table.num_rows == 0 or table["index"][0].as_py() < num_frames]
        if len(kept) < len(tables):
            with self._mending() as batch:
                write_data(batch.new(name), kept)

    @contextmanager
    def _mending(self) -> Iterator[Batch]:
        batch = Batch(self.path, self.path / _PARTIAL / "batch")
        try:
            yield batch
            batch.publish()
        except OSError as error:
            raise save_error(f"{self.path}: what a recorder left that was killed", error) from error

    def _save(self, episode: RecordedEpisode) -> None:
        """Write all files that change elsewhere, move them into place, and only then count the episode."""
        task = episode.task
        tasks = self._tasks if task in self._tasks else [*self._tasks, task]
        table = self._table(episode, tasks.index(task))
        statistics = {name: of_column(_values(table, name)) for name in table.column_names}
        statistics |= episode.statistics
        part = self._part if self._has_room(episode) else _Part(self._part.number + 1)
        row = self._row(part, table.num_rows, task, statistics)
        grown = replace(part, tables=(*part.tables, table), rows=(*part.rows, row), foreign=episode.foreign)
        combined = {
            name: combine([self._statistics[name], new]) if name in self._statistics else new
            for name, new in statistics.items()
        }
        info = {**self._info, **totals(self.num_episodes + 1, row["dataset_to_index"], len(tasks))}

        batch = Batch(self.path, self.path / _PARTIAL / "batch")
        for camera in self.format.cameras:
            name = VIDEO.format(video_key=camera.name, **part.place)
            join([*([self.path / name] if part.rows else []), episode.videos[camera.name]], batch.new(name))
        write_data(batch.new(DATA.format(**part.place)), grown.tables)
        write_tasks(batch.new(TASKS), tasks)
        write_episodes(batch.new(EPISODES.format(**part.place)), grown.rows)
        write_json(batch.new(STATS), {name: plain(values) for name, values in combined.items()})
        write_json(batch.new(INFO), info)
        try:
            batch.publish()
        except BaseException:
            self._continue()  # some files may be in place, some not; what is on disk decides
            raise
        self._part, self._tasks, self._statistics, self._info = grown, tasks, combined, info

    def _has_room(self, episode: RecordedEpisode) -> bool:
        """Whether the files in progress can take this episode too."""
        if not self._part.rows:
            return True
        if self._part.foreign or episode.foreign:
            return False
        videos = [
            (self.path / VIDEO.format(video_key=camera.name, **self._part.place)).stat().st_size
            + episode.videos[camera.name].stat().st_size
            for camera in self.format.cameras
        ]
        return (
            len(self._part.rows) < EPISODES_PER_FILE
            and sum(table.nbytes for table in self._part.tables) < DATA_FILE_MB * 2**20
            and max(videos, default=0) <= VIDEO_FILE_MB * 2**20
        )

    def _table(self, episode: RecordedEpisode, task_index: int) -> pa.Table:
        """The episode's rows of data."""
        rows = np.arange(episode.num_rows)
        columns = {
            "timestamp": (rows / self.format.fps).astype(np.float32),
            "frame_index": rows,
            "episode_index": np.full_like(rows, self.num_episodes),
            "index": rows + self._info["total_frames"],
            "task_index": np.full_like(rows, task_index),
        }
        return data_table(self._schema, {**columns, **episode.columns})

    def _row(self, part: _Part, length: int, task: str, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """The episode's row in the table of episodes. Times are start / fps from whole frames: sums would drift."""
        start, fps = part.num_frames, self.format.fps
        row: dict[str, Any] = {"episode_index": self.num_episodes, "tasks": [task], "length": length}
        row |= {f"data/{name}": value for name, value in part.place.items()}
        row["dataset_from_index"] = self._info["total_frames"]
        row["dataset_to_index"] = self._info["total_frames"] + length
        for camera in self.format.cameras:
            row |= {f"videos/{camera.name}/{name}": value for name, value in part.place.items()}
            row[f"videos/{camera.name}/from_timestamp"] = start / fps
            row[f"videos/{camera.name}/to_timestamp"] = (start + length) / fps
        for feature, values in statistics.items():
            row |= {f"stats/{feature}/{name}": value for name, value in plain(values).items()}
        return row | {f"meta/episodes/{name}": value for name, value in part.place.items()}


def _last_number(row: Mapping[str, Any], chunks_size: int) -> int:
    """The highest file number an episode uses, in whatever kind of file."""
    chunks = [name for name in row if name.endswith("chunk_index")]
    return max(row[name] * chunks_size + row[name.replace("chunk_index", "file_index")] for name in chunks)


def _data_place(row: Mapping[str, Any]) -> dict[str, int]:
    return {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}


def _values(table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name).combine_chunks()
    flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    return flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)


def _lock(path: Path) -> BinaryIO:
    """Keep two recorders out of one folder, and remove what a killed one left."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: is a file; name a folder")
    if (path / _PARTIAL).is_symlink():
        raise ValueError(f"{path / _PARTIAL}: is a symbolic link, where recordings grow; remove it")
    try:
        lock = locked(path / _LOCK)
    except BlockingIOError as error:
        raise OSError(f"{path}: another recorder is writing there") from error
    shutil.rmtree(path / _PARTIAL, ignore_errors=True)
    return lock
