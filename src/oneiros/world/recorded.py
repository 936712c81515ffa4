"""A dataset as a world saw it: which episodes it held out, and their clips at its camera, size and stride."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from oneiros.agreement import Controls, check_agreement
from oneiros.data.episodes.clips import Clips, EpisodeArrays, fully_known, load_frames, split_episodes
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_uint8
from oneiros.records import Clip
from oneiros.run_folder import read_origin
from oneiros.world.model import World
from oneiros.world.rollout import context_of


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
    trained_on = read_origin(run).of(dataset.fingerprint())
    readable = tuple(episode.index for episode in dataset.episodes)
    if trained_on is not None:
        held_out = trained_on.held_out
        if not set(held_out) & set(readable):
            raise ValueError(f"{dataset.path}: none of the episodes that {run} held out can be read ({held_out})")
        return tuple(index for index in held_out if index in readable)
    return split_episodes(readable)[1]


def load_episodes(world: World, run: Path | str, dataset: Dataset, episodes: Sequence[int]) -> list[EpisodeArrays]:
    """These episodes, decoded, by the run's camera and in its size. ValueError when actions or speed are not the
    world's."""
    check_dataset(world, dataset)
    size, trained_on = world.tokenizer.config, read_origin(run).camera_name
    camera = next((camera.name for camera in dataset.cameras if camera.name == trained_on), None)
    return load_frames(dataset, episodes, height=size.height, width=size.width, camera=camera, depth=size.channels == 4)


def load_clips(world: World, run: Path | str, dataset: Dataset, episodes: Sequence[int], *, length: int) -> Clips:
    """All clips of `length` whole frames in these episodes, as the run saw them: its camera, size and stride. Where
    some of their actions are not known, those of the others; without actions where none has all.

    ValueError when actions or speed are not the world's, or every episode is shorter than a clip.
    """
    loaded, stride = load_episodes(world, run, dataset, episodes), world.config.frame_stride
    whole = [episode for episode in loaded if len(episode.content) > (length - 1) * stride]
    return Clips(fully_known(whole or loaded), dataset.action_spec, length=length, stride=stride)


@dataclass(frozen=True)
class Recording:
    """A piece of an episode, to dream on from and to compare with.

    episode: its index. held_out: whether the run never trained on it. context: its first frames, a batch of one.
    actions: (1, F, ...), those that followed, or None without actions. real: uint8 (F, H, W, 3), what they led to.
    """

    episode: int
    held_out: bool
    context: Clip
    actions: Tensor | None
    real: Tensor


def load_recording(
    world: World, run: Path | str, dataset: Dataset, *, episode: int | None, start: int, context: int, num_frames: int
) -> Recording:
    """`context` frames of an episode from row `start` on, and at most `num_frames` after them, as the run saw them.

    episode: None = the first that was held out of training. ValueError for an episode that is not there, or too short
    for the context and, unless `num_frames` is 0, one frame more.
    """
    held_out = held_out_episodes(run, dataset)
    episode = held_out[0] if episode is None else episode
    lengths = {readable.index: readable.length for readable in dataset.episodes}
    if episode not in lengths:
        raise ValueError(f"{dataset.path} has no readable episode {episode}; it has {min(lengths)} to {max(lengths)}")
    stride = world.config.frame_stride
    available = (lengths[episode] - 1 - start) // stride + 1 - context
    if start < 0 or available < min(1, num_frames):
        raise ValueError(
            f"episode {episode} has {lengths[episode]} rows; {context} given frames from row {start} on at stride "
            f"{stride} leave nothing to dream beside"
        )
    length = context + min(num_frames, available)
    clip = load_clips(world, run, dataset, [episode], length=length).batch([start])
    assert isinstance(clip, Clip)  # the episodes hold frames
    actions = None if clip.actions is None else clip.actions[:, context - 1 :]
    real = to_uint8(clip.frames[0, context:])
    return Recording(episode, episode in held_out, context_of(clip, context), actions, real)
