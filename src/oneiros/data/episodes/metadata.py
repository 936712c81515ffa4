"""Where a LeRobot dataset keeps what: info, episodes, files and statistics, for v2.x (a file per episode) and v3.0."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from oneiros.data.episodes.features import MOST_NUMBERS, PICTURES, used_features
from oneiros.data.episodes.parquet import MOST_ROWS, read_table
from oneiros.data.episodes.statistics import Statistics, combine
from oneiros.disk import inside
from oneiros.json_file import read_json, read_json_lines

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

_STATS_OF = "stats/"  # columns of the table of episodes
_MOST_PIXELS = 2**26  # of a frame


@dataclass(frozen=True)
class VideoSlice:
    """An episode's frames of one camera: frame t of the episode is frame `first_frame` + t of the file.

    num_frames: how many of the file's frames are the episode's; None where that is not known.
    """

    path: Path
    first_frame: int
    num_frames: int | None = None


@dataclass(frozen=True)
class EpisodeFiles:
    """Where one episode lives. index: the dataset's own number for it. length: of its rows that have a frame.
    without_frame: of its rows at the end that have none."""

    index: int
    length: int
    task: str
    data: Path
    videos: Mapping[str, VideoSlice]
    without_frame: int = 0

    def __post_init__(self) -> None:
        first = min((video.first_frame for video in self.videos.values()), default=0)
        if self.index < 0 or self.length < 1 or first < 0:
            raise ValueError(f"episode {self.index} has {self.length} rows, from frame {first} of its video on")


@dataclass(frozen=True)
class DatasetMetadata:
    """A dataset's metadata. statistics: by feature, as far as the dataset has them."""

    root: Path
    info: Mapping[str, Any]
    episodes: tuple[EpisodeFiles, ...]
    statistics: Mapping[str, Statistics]

    @property
    def video_keys(self) -> list[str]:
        """Cameras stored as films."""
        return keys_of(self.info, "video")

    @property
    def image_keys(self) -> list[str]:
        """Cameras stored as single pictures, in the rows."""
        return keys_of(self.info, "image")

    def is_ours(self, key: str) -> bool:
        """Whether Oneiros recorded this camera, whose episodes begin exactly where its metadata says."""
        return "camera" in (self.info["features"][key].get("info") or {})


def keys_of(info: Mapping[str, Any], dtype: str) -> list[str]:
    """The features of that type."""
    return [name for name, feature in info["features"].items() if feature.get("dtype") == dtype]


def read_metadata(root: Path) -> DatasetMetadata:
    """Read the metadata of a dataset of either version. ValueError when the folder is none."""
    info = read_info(root)
    with errors_as_value_error(root, "meta"):
        keys = keys_of(info, "video")
        if keys and not info.get("video_path"):
            raise ValueError(f"{root / INFO}: has cameras but no 'video_path'")
        for key in (*keys, *keys_of(info, "image")):
            inside(root, key)  # it becomes part of names of files here and in caches
        if info["codebase_version"].startswith("v3"):
            return DatasetMetadata(root, info, tuple(_episodes_v3(root, info, keys)), _statistics_v3(root))
        return DatasetMetadata(root, info, tuple(_episodes_v2(root, info, keys)), _statistics_v2(root))


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json, checked for what every reader needs."""
    path = root / INFO
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    if not path.is_file():
        raise ValueError(
            f"{root}: is no LeRobot dataset; it has no {INFO} (`oneiros import` makes one of films with actions beside "
            "them, or of HDF5)"
        )
    inside(root, INFO)
    with errors_as_value_error(root, INFO):
        info = dict(read_json(path))
        for key in ("codebase_version", "fps", "features", "data_path"):
            if key not in info:
                raise ValueError(f"{path}: has no {key!r}")
        if not info["codebase_version"].startswith(("v2", "v3")):
            raise ValueError(f"{path}: is of version {info['codebase_version']}; v2.0, v2.1 and v3.0 can be read")
        if info["fps"] != int(info["fps"]) or info["fps"] <= 0:
            raise ValueError(f"{path}: fps is {info['fps']}; it must be a whole number above 0")
        if not isinstance(info.get("robot_type"), str | None):
            raise ValueError(f"{path}: robot_type is {str(info['robot_type'])[:80]}; it must be a text")
        for name, feature in used_features(info["features"]).items():
            shape = feature.get("shape")
            if not isinstance(shape, list) or any(type(size) is not int or size < 1 for size in shape):
                raise ValueError(f"{path}: feature {name} has shape {shape}; it must be whole numbers above 0")
            if math.prod(shape) > (_MOST_PIXELS if feature["dtype"] in PICTURES else MOST_NUMBERS):
                raise ValueError(f"{path}: feature {name} has shape {str(shape)[:80]}; too many numbers for a row")
        return {**info, "fps": int(info["fps"])}


@contextmanager
def errors_as_value_error(root: Path, name: str | Path) -> Iterator[None]:
    """Inside, errors of the code that reads a stranger's file become a ValueError of one line that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError, ValueError) as error:
        if isinstance(error, ValueError) and str(root) in str(error):
            raise  # says already what is wrong, and where
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{root / name}: is not what LeRobot writes ({what})") from error


def _episodes_v3(root: Path, info: Mapping[str, Any], keys: list[str]) -> Iterator[EpisodeFiles]:
    for row in read_episode_rows(root):
        data = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        yield EpisodeFiles(
            index=int(row["episode_index"]),
            length=int(row["length"]),
            task=_task(root, row, path := _file(root, info, "data_path", **data)),
            data=path,
            videos={key: _slice_v3(root, info, key, row) for key in keys},
        )


def _slice_v3(root: Path, info: Mapping[str, Any], key: str, row: Mapping[str, Any]) -> VideoSlice:
    place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
    path = _file(root, info, "video_path", video_key=key, **place)
    start, stop = (row.get(f"videos/{key}/{name}_timestamp") for name in ("from", "to"))
    first = round(start * info["fps"])
    return VideoSlice(path, first, None if stop is None else round(stop * info["fps"]) - first)


def _task(root: Path, row: Mapping[str, Any], data: Path) -> str:
    """What an episode is about, by its own row of metadata, else by what its rows of data name."""
    told = row.get("tasks")
    if told is None:
        return task_of_rows(root, data, row["episode_index"])
    return told if isinstance(told, str) else "; ".join(told)


def task_of_rows(root: Path, data: Path, episode: int) -> str:
    """What an episode is about by the task_index of its rows in a file of data; empty where they do not say."""
    tasks, file = tuple(read_tasks(root)), inside(root, data.relative_to(root))
    return _tasks_of_rows(file, tasks, file.stat().st_mtime_ns).get(episode, "") if file.is_file() else ""


@lru_cache(maxsize=4)
def _tasks_of_rows(path: Path, tasks: tuple[str, ...], changed: int) -> dict[int, str]:
    """By episode, the tasks that the rows of a data file name."""
    table = read_table(path, lambda name: name in ("episode_index", "task_index"))
    if table.num_columns < 2:
        return {}
    pairs = dict.fromkeys(zip(*(table[name].to_pylist() for name in ("episode_index", "task_index")), strict=True))
    named: dict[int, list[str]] = {}
    for episode, task in pairs:
        if task is not None and 0 <= task < len(tasks):
            named.setdefault(episode, []).append(tasks[task])
    return {episode: "; ".join(texts) for episode, texts in named.items()}


def _file(root: Path, info: Mapping[str, Any], key: str, **place: int | str) -> Path:
    """Where the template info[key] puts a file. Raises ValueError for a template of more than names with plain widths
    (`{chunk_index:03d}`), for numbers that are none, and for a place outside root."""
    template = info[key]
    _check_template(template, tuple(place))
    for name, value in place.items():
        if name != "video_key" and type(value) is not int:
            raise ValueError(f"{root / INFO}: {name} of {key} is {value!r}; it must be a whole number")
    return inside(root, template.format(**place))


@lru_cache(maxsize=16)
def _check_template(template: str, names: tuple[str, ...]) -> None:
    for _, name, width, conversion in string.Formatter().parse(template):
        if name is not None and (name not in names or conversion or not re.fullmatch(r"(0?[1-9]?d)?", width or "")):
            allowed = " and ".join(f"{{{each}}}" for each in names)
            raise ValueError(f"{template[:80]!r} may hold {allowed}, with plain widths such as {{chunk_index:03d}}")


def read_episode_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of meta/episodes of a v3.0 dataset without their statistics, in order of episode."""
    rows: list[dict[str, Any]] = []
    for path in _episode_tables(root):
        rows += read_table(path, lambda name: not name.startswith(_STATS_OF), most_rows=MOST_ROWS).to_pylist()
    with errors_as_value_error(root, "meta/episodes"):
        return sorted(rows, key=lambda row: row["episode_index"])


def count_statistics(root: Path) -> dict[str, Statistics]:
    """The statistics of a v3.0 dataset, by feature, anew from those that its table has of each episode."""
    parts: dict[str, list[Statistics]] = {}
    for path in _episode_tables(root):
        for row in read_table(path, lambda name: name.startswith(_STATS_OF), most_rows=MOST_ROWS).to_pylist():
            episode: dict[str, Statistics] = {}
            for name, value in row.items():
                feature, _, kind = name.removeprefix(_STATS_OF).rpartition("/")
                if value is not None:
                    episode.setdefault(feature, {})[kind] = np.asarray(value)
            for feature, statistics in episode.items():
                parts.setdefault(feature, []).append(statistics)
    with errors_as_value_error(root, "meta/episodes"):
        return {feature: combine(each) for feature, each in parts.items()}


def uncounted(info: Mapping[str, Any], statistics: Mapping[str, Statistics]) -> dict[str, float]:
    """Columns of numbers whose statistics are not of all rows of a v3.0 dataset: by name, of how many they are."""
    columns = [name for name, feature in info["features"].items() if feature.get("dtype") not in PICTURES]
    counts = {name: float(statistics[name]["count"].sum()) for name in columns if name in statistics}
    return {name: count for name, count in counts.items() if count != info["total_frames"]}


def _episode_tables(root: Path) -> list[Path]:
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    return [inside(root, path.relative_to(root)) for path in paths]


def read_tasks(root: Path) -> list[str]:
    """The tasks of a dataset; a task's place in the list is its task_index. ValueError where its table is damaged."""
    path = inside(root, TASKS)
    if path.exists():
        rows = read_table(path, lambda name: True, most_rows=MOST_ROWS).to_pylist()
    else:
        rows = read_json_lines(inside(root, "meta/tasks.jsonl")) if (root / "meta/tasks.jsonl").exists() else []
    with errors_as_value_error(root, path.relative_to(root)):
        rows = sorted(rows, key=lambda row: row["task_index"])
        tasks = [row.get("task", row.get("__index_level_0__")) for row in rows]  # pandas' word for a nameless index
        if not all(isinstance(task, str) for task in tasks):
            raise TypeError("a task is no text")
        return tasks


def _statistics_v3(root: Path) -> dict[str, Statistics]:
    path = inside(root, STATS)
    return _as_statistics(read_json(path)) if path.is_file() else {}


def _episodes_v2(root: Path, info: Mapping[str, Any], keys: list[str]) -> Iterator[EpisodeFiles]:
    chunks_size = info.get("chunks_size", 1000)
    for row in read_json_lines(inside(root, "meta/episodes.jsonl")):
        index = int(row["episode_index"])
        place = {"episode_chunk": index // chunks_size, "episode_index": index}
        yield EpisodeFiles(
            index=index,
            length=int(row["length"]),
            task=_task(root, row, path := _file(root, info, "data_path", **place)),
            data=path,
            videos={key: VideoSlice(_file(root, info, "video_path", video_key=key, **place), 0) for key in keys},
        )


def _statistics_v2(root: Path) -> dict[str, Statistics]:
    """v2.1 keeps them per episode, v2.0 for the whole dataset."""
    path = inside(root, "meta/episodes_stats.jsonl")
    if not path.is_file():
        return _statistics_v3(root)
    parts = [_as_statistics(row["stats"]) for row in read_json_lines(path)]
    names = parts[0] if parts else ()
    return {name: combine([part[name] for part in parts if name in part]) for name in names}


def _as_statistics(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Statistics]:
    """JSON -> arrays. Features without a count (v2.0) get 1: they are never combined with others."""
    return {
        name: {
            "count": np.array([1]),
            **{key: np.atleast_1d(np.asarray(value, float)) for key, value in feature.items()},
        }
        for name, feature in values.items()
    }
