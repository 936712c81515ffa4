"""Where dreams begin: held-out episodes of a dataset, one's own picture, or what training left in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file

from oneiros.agreement import Controls, check_agreement
from oneiros.data.clips import Clips, EpisodeArrays, load_frames, split_episodes, spread
from oneiros.data.frames import resize, to_model
from oneiros.data.lerobot import Dataset
from oneiros.models.world import World
from oneiros.records import Camera, Clip
from oneiros.run_folder import read_origin

STARTS = "starts.safetensors"  # in a run folder: beginnings for players without the dataset
CONTEXT = 8  # frames a dream is given to begin with


def load_world(path: Path | str, *, device: str = "cpu") -> World:
    """The world of a run folder, made quick for play. ValueError when it holds none."""
    return World.load(path, device=device).quicken()


def depth_camera(run: Path | str) -> Camera | None:
    """How the depth of this run's frames is coded and seen; None for worlds of colour alone, or of older runs."""
    return read_origin(run).depth_camera


def find_starts(
    world: World, run: Path, *, data: Path | str | None = None, image: Path | str | None = None
) -> list[Clip]:
    """Starts from the dataset `data`, or the picture `image`, or else those in the run folder."""
    if data is not None and image is not None:
        raise ValueError("a dream starts from data or from an image; give one of them")
    if image is not None:
        return [start_from_image(world, image)]
    if data is not None:
        dataset = Dataset.open(data)
        return starts_from_data(world, run, dataset, held_out_episodes(run, dataset))
    return starts_from_run(world, run)


def check_dataset(world: World, dataset: Dataset) -> None:
    """ValueError when the dataset's actions, or its frames a second, are not the world's."""
    fps = world.config.fps * world.config.frame_stride
    known = Controls("this world", world.config.action_spec, fps)
    check_agreement(Controls(str(dataset.path), dataset.action_spec, dataset.fps), known)


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


def starts_from_data(
    world: World, run: Path, dataset: Dataset, episodes: Sequence[int], *, length: int = CONTEXT, count: int = 16
) -> list[Clip]:
    """Contexts spread evenly over the episodes."""
    clips = load_clips(world, run, dataset, episodes, length=length)
    return [_as_start(clips, index, world) for index in spread(count, len(clips))]


def start_from_image(world: World, path: Path | str) -> Clip:
    """A picture, cropped to the middle and resized, as a context of one frame."""
    size = world.tokenizer.config
    if size.channels != 3:
        raise ValueError(f"{path}: this world dreams colour and depth; a picture has no depth to start from")
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    frames = to_model(resize(pixels[None], size.height, size.width).copy())
    return Clip(frames[None], None, torch.ones(1, 1, dtype=torch.bool))


def starts_from_run(world: World, run: Path) -> list[Clip]:
    """The starts that training left in the run folder: "frames" uint8 (S, T, H, W, 3 or 5), "actions" (S, T-1, ...)."""
    path = run / STARTS
    if not path.is_file():
        raise ValueError(f"{run} holds no {STARTS} to begin from; name a dataset (--data) or a picture (--image)")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    frames, actions = tensors["frames"], tensors.get("actions")
    starts = []
    for index in range(len(frames)):
        episode = EpisodeArrays(frames[index].numpy(), None, "", index)
        clip = _as_start(Clips([episode], None, length=frames.shape[1]), 0, world)
        starts.append(replace(clip, actions=None if actions is None else actions[index : index + 1]))
    return starts


def _as_start(clips: Clips, index: int, world: World) -> Clip:
    clip = clips.batch([index])
    assert isinstance(clip, Clip)  # the episodes hold frames
    return clip if world.config.action_spec else replace(clip, actions=None)
