"""Label images of a dataset, and a network that learned from them what things look like.

Legend: T rows of an episode, h x w pixels of the world's frames, K kinds of things (1 to K; 0 is what is no thing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oneiros.console import Track
from oneiros.data.episodes.clips import load_frames, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import resize_nearest
from oneiros.data.video import DamagedVideoError
from oneiros.records import Camera
from oneiros.world.evaluation.config import ThingsConfig
from oneiros.world.evaluation.things.network import Labelled, ThingNetwork, learn_to_see

_EPISODES, _FRAMES = 64, 4000  # at most, to learn from
_LARGEST = 0.1  # of the frames it is in, that a class covers on average if it is of things
_FEWEST = 20  # frames with a class, below which it cannot be learned


@dataclass(frozen=True)
class Judge:
    """names: of the K kinds. kinds: by episode that is measured, uint8 (T, h, w). frames: how many it learned from."""

    network: ThingNetwork
    names: tuple[str, ...]
    kinds: dict[int, np.ndarray]
    frames: int


@dataclass(frozen=True)
class SeenAs:
    """What a world saw of a dataset: camera None = the first; height, width: of its frames."""

    camera: str | None
    height: int
    width: int


def find_judge(
    dataset: Dataset,
    view: SeenAs,
    *,
    learn_from: Sequence[int],
    measured: Sequence[int],
    config: ThingsConfig,
    seed: int,
    track: Track,
) -> Judge | str:
    """A network that learned on the episodes `learn_from` and the truth of those `measured`, or why there is none.

    Raises ValueError for a class in `config.kinds` that the label images do not have.
    """
    if config.steps == 0:
        return "not asked for"
    labels = labels_beside(dataset, view.camera)
    if labels is None:
        return f"{dataset.path.name} has no label images"
    if not learn_from:
        return "no episode is left to learn from"
    try:
        chosen = [learn_from[i] for i in spread(_EPISODES, len(learn_from))]
        learned = _read(dataset, labels, view, chosen)
        numbers = _numbers_of(learned[1], labels, config.kinds)
        if not numbers:
            return "no class of the label images is of small things"
        truth = {
            episode: _kinds(_resized(dataset.labels(episode, camera=labels.name), view), numbers)
            for episode in measured
        }
    except DamagedVideoError as error:
        return str(error)
    network = learn_to_see(
        Labelled(learned[0], _kinds(learned[1], numbers)),
        len(numbers),
        steps=config.steps,
        seed=seed,
        advance=track("learning to see things", config.steps),
    )
    names = tuple(_name(labels, number) for number in numbers)
    return Judge(network, names, truth, len(learned[0]))


def labels_beside(dataset: Dataset, camera: str | None) -> Camera | None:
    """The label images of what the camera sees: of its name, or the only ones of the only camera."""
    seen = dataset.camera(camera).name
    labels = [each for each in dataset.cameras if each.kind == "labels"]
    same = [each for each in labels if each.name == seen.replace(".images.", ".labels.")]
    alone = len(labels) == 1 and sum(each.kind == "rgb" for each in dataset.cameras) == 1
    return (same or (labels if alone else [None]))[0]


def _read(dataset: Dataset, labels: Camera, view: SeenAs, episodes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (M, h, w, 3) and class numbers (M, h, w) of rows spread evenly over the episodes."""
    loaded = load_frames(dataset, episodes, height=view.height, width=view.width, camera=view.camera)
    every = max(1, -(-sum(len(each.content) for each in loaded) // _FRAMES))
    frames = np.concatenate([each.content[::every] for each in loaded])
    classes = [_resized(dataset.labels(each.index, camera=labels.name)[::every], view) for each in loaded]
    return frames, np.concatenate(classes)


def _resized(classes: np.ndarray, view: SeenAs) -> np.ndarray:
    return resize_nearest(classes, view.height, view.width)


def _numbers_of(classes: np.ndarray, labels: Camera, asked: Sequence[str]) -> list[int]:
    """The class numbers that are things: those of the names asked for, else those that are small where they are."""
    there = np.unique(classes).tolist()
    if asked:
        names = {_name(labels, number): number for number in {*range(len(labels.classes)), *there}}
        if unknown := [name for name in asked if name not in names]:
            raise ValueError(f"the label images have no class {unknown[0]!r}; theirs are {', '.join(names)}")
        return sorted({names[name] for name in asked} & set(there))
    small = []
    for number in there:
        share = (classes == number).mean(axis=(1, 2))
        share = share[share > 0]
        if len(share) >= _FEWEST and share.mean() <= _LARGEST:
            small.append(number)
    return small


def _name(labels: Camera, number: int) -> str:
    return labels.classes[number] if number < len(labels.classes) else f"class {number}"


def _kinds(classes: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Class numbers -> uint8 kinds: 1 for the first of `numbers`, 0 for what is no thing."""
    kinds = np.zeros(classes.shape, np.uint8)
    for kind, number in enumerate(numbers, 1):
        kinds[classes == number] = kind
    return kinds
