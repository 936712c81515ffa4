"""What only shows when frames are decoded: films that stand still, skip, are black or have their colours exchanged, and
actions that belong elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oneiros.data.checks import Check, Problem
from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.episodes.inspection.colours import check_channels
from oneiros.data.episodes.inspection.motion import check_dark, check_motion
from oneiros.data.episodes.inspection.offset import SHIFTS, SIDE, Moved, Offset, find_offset
from oneiros.data.video import DamagedVideoError
from oneiros.records import Camera

MOST_EPISODES = 40  # spread over the dataset, of which so many rows are looked at
MOST_ROWS = 200
_ROWS_OF_OTHERS = 30  # of cameras that training does not take


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
    smooth = dataset.action_spec is not None and dataset.action_spec.kind == "continuous"
    moving = [each for index, frames in seen.items() for each in check_motion(index, frames, smooth=smooth)]
    offset = _offset(dataset, seen)
    return Look(
        (
            Check("films can be decoded", tuple(lost)),
            Check("what is filmed moves, frame by frame", (*moving, *_clocks(dataset, colour, seen))),
            Check("no camera is black", tuple(_dark(dataset, colour, seen))),
            Check("red is red, and blue blue", tuple(_channels(dataset, colour, seen))),
            Check("actions belong to their frames", tuple(_told(dataset, offset)), _late(offset)),
        ),
        offset,
    )


def _thumbnails(dataset: Dataset, episode: Episode, camera: Camera) -> np.ndarray:
    return dataset.thumbnails(episode.index, camera, SIDE, stop=min(episode.length, MOST_ROWS))


def _dark(dataset: Dataset, colour: Sequence[Camera], seen: Mapping[int, np.ndarray]) -> Iterator[Problem]:
    """The camera that training takes in all that was seen, the others in the first, the middle and the last episode."""
    for index, frames in seen.items():
        yield from check_dark(colour[0].name, index, frames)
    for camera in colour[1:]:
        for place in spread(3, len(dataset.episodes)):
            episode = dataset.episodes[place]
            try:
                frames = dataset.thumbnails(episode.index, camera, SIDE, stop=min(episode.length, _ROWS_OF_OTHERS))
            except ValueError:
                continue
            yield from check_dark(camera.name, episode.index, frames)


def _channels(dataset: Dataset, colour: Sequence[Camera], seen: Mapping[int, np.ndarray]) -> Iterator[Problem]:
    if colour:
        mean = dataset.statistics.get(colour[0].name, {}).get("mean")
        yield from check_channels(colour[0].name, seen, None if mean is None else np.ravel(mean))


def _clocks(dataset: Dataset, colour: Sequence[Camera], seen: Mapping[int, np.ndarray]) -> Iterator[Problem]:
    """Films whose own clock jumps."""
    for index in seen:
        gap = dataset.gap_in_film(index, colour[0])
        if gap is not None:
            row, lost = gap
            yield Problem(
                f"episode {index}: the film's own clock jumps before frame {row}, by {lost + 1} frames; what happened "
                "between was not filmed, though rows go on as if it were"
            )


def moved(dataset: Dataset, seen: Mapping[int, np.ndarray]) -> list[Moved]:
    """What `find_offset` compares, of the episodes whose actions were recorded. seen: their first frames, small.

    ValueError for actions that are no numbers."""
    spec, found = dataset.action_spec, []
    for index, frames in seen.items() if spec is not None else ():
        actions, state, sure = dataset.actions(index), dataset.states(index), dataset.confidence(index)
        assert actions is not None
        assert spec is not None
        rows = len(frames)
        if sure is not None and (sure[:rows] < 1).any():
            continue  # what was inferred from the frames says nothing of a recorder
        if spec.kind == "discrete":
            actions = actions[:, None] == np.arange(spec.size)
        whole = state is not None and bool(np.isfinite(state).all())
        found.append(Moved(index, frames, actions[:rows], state[:rows] if whole and state is not None else None))
    return found


def _offset(dataset: Dataset, seen: Mapping[int, np.ndarray]) -> Offset | None:
    try:
        return find_offset(moved(dataset, seen))
    except ValueError:  # a check of its own says so
        return None


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


def _late(offset: Offset | None) -> str:
    if offset is None or not offset.delay:
        return ""
    most = " or more" if abs(offset.delay) == SHIFTS[-1] else ""
    when = "later" if offset.delay > 0 else "earlier"
    return (
        f"the film shows what the robot's state says {abs(offset.delay)} rows{most} {when}, as a camera's delay does; "
        "the offset is of actions and states; "
        f"--shift {(offset.shift or 0) - offset.delay} pairs actions with what is seen"
    )
