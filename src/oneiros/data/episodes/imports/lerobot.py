"""A LeRobot dataset of any version, to be written anew: with actions shifted, or as v3.0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from oneiros.data.depth import codes_to_depth
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.imports.recording import ImportedEpisode, Options, Source

T = TypeVar("T")


def open_lerobot(path: Path, options: Options) -> Source:
    """Every camera, the actions, states and outcomes of a dataset. Episodes that cannot be read are named."""
    dataset = Dataset.open(path)
    states, spec, known = dataset.state_names, dataset.action_spec, dataset.pays or dataset.ends
    partly = dataset.confidence(dataset.episodes[0].index) is not None
    recordings = tuple(
        ImportedEpisode(
            name=f"episode {episode.index}",
            task=options.task or episode.task,
            length=episode.length,
            images=partial(_images, dataset, episode.index),
            actions=partial(_known, dataset.actions, episode.index) if spec else None,
            state=partial(_known, dataset.states, episode.index) if states else None,
            outcomes=partial(_known, dataset.outcomes, episode.index) if known else None,
            confidence=partial(_known, dataset.confidence, episode.index) if partly else None,
        )
        for episode in dataset.episodes
    )
    return Source(
        kind="lerobot",
        fps=options.fps or dataset.fps,
        cameras=dataset.cameras,
        action_spec=spec,
        state_names=states,
        recordings=recordings,
        unusable=dict(problem.split(": ", 1) for problem in dataset.problems),
        robot_type=dataset.info.get("robot_type") or "unknown",
        outcomes=known,
        partly=partly,
    )


def _known(read: Callable[[int], T | None], episode: int) -> T:
    values = read(episode)
    assert values is not None
    return values


def _images(dataset: Dataset, episode: int) -> Iterator[Mapping[str, np.ndarray]]:
    streams = {camera: dataset.stream(episode, camera) for camera in dataset.cameras}
    for frames in zip(*streams.values(), strict=True):
        yield {
            camera.name: codes_to_depth(frame, camera) if camera.kind == "depth" else frame
            for camera, frame in zip(streams, frames, strict=True)
        }
