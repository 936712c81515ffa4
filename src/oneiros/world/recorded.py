"""A dataset as a world saw it: which episodes it held out, and their clips at its camera, size and stride."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oneiros.agreement import Controls, check_agreement
from oneiros.data.episodes.clips import Clips, load_frames, split_episodes
from oneiros.data.episodes.dataset import Dataset
from oneiros.run_folder import read_origin
from oneiros.world.model import World


def check_dataset(world: World, dataset: Dataset) -> None:
    """ValueError when the dataset's actions, or its frames a second, are not the world's."""
    fps = world.config.fps * world.config.frame_stride
    expected = Controls("this world", world.config.action_spec, fps)
    check_agreement(Controls(str(dataset.path), dataset.action_spec, dataset.fps), expected)


def held_out_episodes(run: Path | str, dataset: Dataset) -> tuple[int, ...]:
    """The dataset's episodes that the run never trained on.

    Those that the run lists, if it was trained on exactly this dataset; else the last tenth, which holds for the same
    dataset with episodes appended as well. ValueError where none of them can be read.
    """
    trained_on = read_origin(run)
    readable = tuple(episode.index for episode in dataset.episodes)
    if trained_on.fingerprint == dataset.fingerprint():
        held_out = trained_on.held_out
        if not set(held_out) & set(readable):
            raise ValueError(f"{dataset.path}: none of the episodes that {run} held out can be read ({held_out})")
        return tuple(index for index in held_out if index in readable)
    return split_episodes(readable)[1]


def load_clips(world: World, run: Path | str, dataset: Dataset, episodes: Sequence[int], *, length: int) -> Clips:
    """All clips of `length` whole frames in these episodes, as the run saw them: its camera, size and stride.

    ValueError when actions or speed are not the world's, or every episode is shorter than a clip.
    """
    check_dataset(world, dataset)
    size, stride = world.tokenizer.config, world.config.frame_stride
    trained_on = read_origin(run).camera_name
    camera = next((camera.name for camera in dataset.cameras if camera.name == trained_on), None)
    loaded = load_frames(
        dataset, episodes, height=size.height, width=size.width, camera=camera, depth=size.channels == 4
    )
    whole = [episode for episode in loaded if len(episode.content) > (length - 1) * stride]
    return Clips(whole or loaded, dataset.action_spec, length=length, stride=stride)
