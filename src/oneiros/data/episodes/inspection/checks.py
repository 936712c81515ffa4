"""Looking for what is wrong with a dataset, without decoding its videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.episodes.damage import ranges
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.features import DONE
from oneiros.data.episodes.inspection.clocks import check_clocks
from oneiros.data.episodes.metadata import INFO, STATS, read_tasks
from oneiros.data.video import DamagedVideoError
from oneiros.records import ActionSpec


def run_checks(dataset: Dataset) -> tuple[Check, ...]:
    """Every check that takes no decoding, in the order of the table that `oneiros inspect` prints.

    A problem is fatal where training on the dataset, as it is without options, would stop.
    """
    spec, (read, unreadable) = dataset.action_spec, _read_actions(dataset)
    return (
        Check("files of every episode are there and whole", tuple(map(Problem, dataset.problems))),
        Check("there is enough to train on", tuple(_check_enough(dataset))),
        Check("films agree with the metadata in size, rate and length", tuple(_check_films(dataset))),
        Check(
            "actions are numbers, and move within their bounds",
            (*unreadable, *_check_actions(spec, read)),
            "" if unreadable else _held(spec, read),
        ),
        Check("rewards are numbers, and ends are where episodes end", tuple(_check_outcomes(dataset))),
        Check("rows are in order and stamped at the dataset's rate", tuple(check_clocks(dataset))),
        Check("the metadata counts what is there", tuple(_check_totals(dataset))),
        Check("every episode says what its task is", tuple(_check_tasks(dataset))),
    )


def _check_enough(dataset: Dataset) -> Iterator[Problem]:
    if len(dataset.episodes) < 2:
        yield Problem("there is one episode; it takes one to train on and one to hold out", fatal=True)
    if not any(camera.kind == "rgb" for camera in dataset.cameras):
        yield Problem("there is no colour camera", fatal=True)


def _check_films(dataset: Dataset) -> Iterator[Problem]:
    yield from map(Problem, dataset.notes)
    taken = next((camera for camera in dataset.cameras if camera.kind == "rgb"), None)
    for camera in dataset.cameras:
        lost = 0
        for episode in dataset.episodes:
            try:
                dataset.check_video(episode.index, camera)
            except DamagedVideoError as error:
                lost += 1
                alone = camera == taken and lost == len(dataset.episodes)
                yield Problem(f"episode {episode.index}: {error}", fatal=alone)
            except ValueError as error:
                yield Problem(str(error), fatal=camera == taken)


def _read_actions(dataset: Dataset) -> tuple[list[np.ndarray], list[Problem]]:
    """The actions of each episode that has some and can be read, and why others cannot."""
    read, problems = [], []
    for episode in dataset.episodes:
        try:
            if (actions := dataset.actions(episode.index)) is not None:
                read.append(actions)
        except ValueError as error:
            problems.append(Problem(str(error), fatal=True))
    return read, problems


def _check_actions(spec: ActionSpec | None, read: Sequence[np.ndarray]) -> Iterator[Problem]:
    if spec is None or not read:
        return
    actions = np.concatenate(read)
    if len(actions) > 1 and (actions == actions[:1]).all():
        yield Problem("every action is the same; nothing can be learned of what it does")
    if spec.kind != "continuous":
        return
    for name, bound, beyond in (("low", spec.low, np.less), ("high", spec.high, np.greater)):
        if not bound:
            continue
        outside = beyond(actions, np.array(bound, np.float32) + (-1e-4 if name == "low" else 1e-4))
        for number in np.flatnonzero(outside.any(axis=0)):
            share = outside[:, number].mean()
            yield Problem(
                f"action {spec.names[number]} is beyond its {name} of {bound[number]:g} in {share:.1%} of the rows"
            )


def _held(spec: ActionSpec | None, read: Sequence[np.ndarray]) -> str:
    """Numbers of the action that never move, which many robots have."""
    if spec is None or spec.kind != "continuous" or not read:
        return ""
    moves = np.ptp(np.concatenate(read), axis=0) > 0
    still = [name for name, moving in zip(spec.names, moves, strict=True) if not moving]
    if not 0 < len(still) < spec.size:
        return ""
    return f"action {', '.join(still)} never changes; a policy holds it there, and a world learns nothing of it"


def _check_outcomes(dataset: Dataset) -> Iterator[Problem]:
    for episode in dataset.episodes:
        try:
            outcomes = dataset.outcomes(episode.index)
        except ValueError as error:
            yield Problem(str(error), fatal=True)
            continue
        if outcomes is None or outcomes.terminated is None or outcomes.truncated is None:
            continue
        early = (outcomes.terminated | outcomes.truncated)[:-2].nonzero()
        if len(early):
            yield Problem(
                f"episode {episode.index} goes on for {episode.length - 1 - int(early[0])} rows after row "
                f"{int(early[0])}, whose {DONE} says that it ended there"
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
        known = read_tasks(dataset.path)
    except ValueError as error:
        yield Problem(str(error))
        return
    if twice := sorted({task for task in known if known.count(task) > 1}):
        yield Problem(f"{dataset.path}: the table of tasks has {twice[0][:80]!r} twice; the two cannot be told apart")
    yield from _check_texts(dataset)
    silent = sum(not episode.task for episode in dataset.episodes)
    if silent:
        yield Problem(f"{silent} of {len(dataset.episodes)} episodes have no task")
    for task in dict.fromkeys(episode.task for episode in dataset.episodes if episode.task):
        if task not in known and not set(known).issuperset(task.split("; ")):
            yield Problem(f"{dataset.path}: the table of tasks does not know {task[:80]!r}")


def _check_texts(dataset: Dataset) -> Iterator[Problem]:
    """Texts that are one task written twice, and rows that name another task than their episode."""
    alike: dict[str, list[str]] = {}
    for task in dict.fromkeys(episode.task for episode in dataset.episodes if episode.task):
        alike.setdefault(" ".join(re.findall(r"\w+", task.lower())), []).append(task)
    for first, second, *_ in (texts for texts in alike.values() if len(texts) > 1):
        yield Problem(
            f"tasks {first[:80]!r} and {second[:80]!r} differ in how they are written alone; they are learned as two"
        )
    odd = []
    for episode in dataset.episodes:
        try:
            named = dataset.task_of_rows(episode.index)
        except ValueError as error:
            yield Problem(str(error))
            return
        if named and not set(episode.task.split("; ")) & set(named.split("; ")):
            odd.append((episode, named))
    if odd:
        episode, named = odd[0]
        more = f" (likewise in {len(odd) - 1} more: {ranges(each.index for each, _ in odd[1:])})" if odd[1:] else ""
        yield Problem(
            f"episode {episode.index} is {episode.task[:80]!r} by the table of episodes, {named[:80]!r} by its rows' "
            f"task_index; the first is taken{more}"
        )
