"""What only shows when frames are decoded: films that stand still or are black, and actions that belong elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.episodes.inspection.offset import SIDE, Moved, Offset, find_offset
from oneiros.data.video import DamagedVideoError
from oneiros.records import Camera

MOST_EPISODES = 40  # spread over the dataset, of which so many rows are looked at
_MOST_ROWS = 200
_FEWEST_FRAMES = 6  # of which it can be said that they stand still
_SAME, _BLACK = 0.4, 6.0  # levels of 255: mean difference that is none but the codec's; mean of a frame
_STALLED = 0.5  # share of an episode


@dataclass(frozen=True)
class Look:
    """checks: by what was looked for. offset: None where there was too little to tell."""

    checks: tuple[Check, ...]
    offset: Offset | None


def look(dataset: Dataset, advance: Callable[[int], object] = lambda _: None) -> Look:
    """Decode some episodes of the camera that training takes, small. advance: called with each episode done."""
    colour = [camera for camera in dataset.cameras if camera.kind == "rgb"]
    places = spread(MOST_EPISODES, len(dataset.episodes))
    seen: dict[int, np.ndarray] = {}
    lost: list[Problem] = []
    for place in places:
        episode = dataset.episodes[place]
        try:
            if colour:
                seen[episode.index] = _thumbnails(dataset, episode, colour[0])
        except DamagedVideoError as error:
            lost.append(Problem(f"episode {episode.index} is left out: {error}"))
        except ValueError:
            pass  # a check of its own says so
        advance(1)
    if lost and not seen:
        lost[0] = Problem(lost[0].text, fatal=True)
    problems = [problem for index, frames in seen.items() for problem in _still(index, frames)]
    dark = [*_dark(dataset, colour, seen)]
    offset = _offset(dataset, seen)
    return Look(
        (
            Check("films can be decoded", tuple(lost)),
            Check("what is filmed moves", tuple(problems)),
            Check("no camera is black", tuple(dark)),
            Check("actions belong to their frames", tuple(_told(dataset, offset))),
        ),
        offset,
    )


def _thumbnails(dataset: Dataset, episode: Episode, camera: Camera) -> np.ndarray:
    return dataset.thumbnails(episode.index, camera, SIDE, stop=min(episode.length, _MOST_ROWS))


def _still(index: int, frames: np.ndarray) -> Iterator[Problem]:
    """Films that are frozen, or show each frame twice."""
    if len(frames) < _FEWEST_FRAMES:
        return
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    same = change < _SAME
    if same.all():
        yield Problem(f"episode {index}: the film stands still, its first {len(frames)} frames are equal; delete it")
        return
    runs = np.diff(np.flatnonzero(np.concatenate([[True], ~same, [True]]))) - 1
    if runs.max() > _STALLED * len(frames):
        start = int(np.concatenate([[0], np.flatnonzero(~same) + 1])[runs.argmax()])
        yield Problem(
            f"episode {index}: the film stands still for {runs.max()} frames from frame {start} on; was a camera lost?"
        )
    elif min(same[::2].mean(), same[1::2].mean()) < 0.1 and max(same[::2].mean(), same[1::2].mean()) > 0.9:
        yield Problem(
            f"episode {index}: every frame is shown twice; the camera ran at half the rate that the dataset claims"
        )


def _dark(dataset: Dataset, colour: Sequence[Camera], seen: dict[int, np.ndarray]) -> Iterator[Problem]:
    for index, frames in seen.items():
        if frames.mean() < _BLACK:
            yield Problem(f"episode {index}: {colour[0].name} is black")
    for camera in colour[1:]:
        for episode in dataset.episodes[:1]:
            try:
                frames = dataset.thumbnails(episode.index, camera, SIDE, stop=min(episode.length, 30))
            except ValueError:
                continue
            if frames.mean() < _BLACK:
                yield Problem(f"episode {episode.index}: {camera.name} is black")


def _offset(dataset: Dataset, seen: dict[int, np.ndarray]) -> Offset | None:
    spec, moved = dataset.action_spec, []
    if spec is None:
        return None
    for index, frames in seen.items():
        try:
            actions, state, sure = dataset.actions(index), dataset.states(index), dataset.confidence(index)
        except ValueError:  # a check of its own says so
            return None
        assert actions is not None
        if sure is not None and (sure[: len(frames)] < 1).any():
            continue  # what was inferred from the frames says nothing of a recorder
        if spec.kind == "discrete":
            actions = actions[:, None] == np.arange(spec.size)
        whole = state is not None and bool(np.isfinite(state).all())
        rows = len(frames)
        moved.append(Moved(index, frames, actions[:rows], state[:rows] if whole and state is not None else None))
    return find_offset(moved)


def _told(dataset: Dataset, offset: Offset | None) -> Iterator[Problem]:
    if offset is None:
        return
    if offset.shift:
        way = "after" if offset.shift > 0 else "before"
        yield Problem(
            f"what moves between frames t and t + 1 is told by the action of row t {offset.shift:+d}, "
            f"{abs(offset.shift)} {way} its own ({offset.sure:.0%} sure); oneiros import {dataset.path} --shift "
            f"{offset.shift} --out MENDED"
        )
    for index, shift in offset.odd.items():
        yield Problem(
            f"episode {index} is told by the action of row t {shift:+d}, where most are by that of row t "
            f"{offset.shift:+d}; its recording began or ended otherwise"
        )
