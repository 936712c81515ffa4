"""Looking for what is wrong with a dataset, without decoding its videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.episodes.metadata import INFO, STATS, read_tasks
from oneiros.data.video import DamagedVideoError


def run_checks(dataset: Dataset) -> tuple[Check, ...]:
    """Every check of the dataset, in the order of the table that `oneiros inspect` prints."""
    missing = tuple(Problem(text) for text in dataset.problems)
    per_episode = {
        "videos agree with the metadata in size, rate and length": _check_videos,
        "actions are numbers": _check_actions,
        "rows are in order and stamped at the dataset's rate": _check_rows,
    }
    return (
        Check("files of every episode are there and whole", missing),
        *(Check(name, tuple(_over_episodes(dataset, look))) for name, look in per_episode.items()),
        Check("the metadata counts what is there", tuple(_check_totals(dataset))),
        Check("every episode says what its task is", tuple(_check_tasks(dataset))),
    )


def _over_episodes(dataset: Dataset, look: Callable[[Dataset, Episode], None]) -> Iterator[Problem]:
    for episode in dataset.episodes:
        try:
            look(dataset, episode)
        except DamagedVideoError as error:
            yield Problem(f"episode {episode.index}: {error}")
        except ValueError as error:
            yield Problem(str(error), fatal=True)


def _check_videos(dataset: Dataset, episode: Episode) -> None:
    for camera in dataset.cameras:
        dataset.check_video(episode.index, camera)


def _check_actions(dataset: Dataset, episode: Episode) -> None:
    dataset.actions(episode.index)


def _check_rows(dataset: Dataset, episode: Episode) -> None:
    """A frame is found by its time stamp in other readers, by its row here: half a frame apart, they would differ."""
    numbers = dataset.column(episode.index, "frame_index")[:, 0]
    rows = np.arange(len(numbers))
    if (numbers != rows).any():
        row = int((numbers != rows).argmax())
        raise ValueError(
            f"{dataset.path}: episode {episode.index}, row {row}: frame_index is {numbers[row]}, not {row}"
        )
    times = dataset.column(episode.index, "timestamp")[:, 0]
    late = np.abs(times * dataset.fps - rows) > 0.5
    if late.any():
        row = int(late.argmax())
        raise ValueError(
            f"{dataset.path}: episode {episode.index}, row {row}: timestamp is {times[row]:.3f} s; "
            f"at {dataset.fps} fps it would be {row / dataset.fps:.3f} s"
        )


def _check_totals(dataset: Dataset) -> Iterator[Problem]:
    for key, found in dataset.totals.items():
        said = dataset.info.get(key, found)
        if said != found:
            yield Problem(f"{INFO} says {key} is {said}; there are {found}")
    counts = dataset.uncounted
    if counts:
        name, count = next(iter(counts.items()))
        yield Problem(
            f"{STATS} counts {count:,.0f} of {dataset.totals['total_frames']:,} rows of {name}"
            f"{', and others' if len(counts) > 1 else ''}; opening the dataset to record counts anew"
        )


def _check_tasks(dataset: Dataset) -> Iterator[Problem]:
    try:
        known = set(read_tasks(dataset.path))
    except ValueError as error:
        yield Problem(str(error))
        return
    silent = sum(not episode.task for episode in dataset.episodes)
    if silent:
        yield Problem(f"{silent} of {len(dataset.episodes)} episodes have no task")
    for task in dict.fromkeys(episode.task for episode in dataset.episodes if episode.task):
        if task not in known and not known.issuperset(task.split("; ")):
            yield Problem(f"{dataset.path}: the table of tasks does not know {task[:80]!r}")
