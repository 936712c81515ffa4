"""Where dreams begin: held-out episodes of a dataset, one's own picture, or what training left in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from oneiros.data.depth import MAX_CODE
from oneiros.data.episodes.arrays import pack_codes
from oneiros.data.episodes.clips import Clips, EpisodeArrays, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import resize, to_model, to_uint8
from oneiros.disk import inside, replacing
from oneiros.records import Clip
from oneiros.world.built_in import STARTS
from oneiros.world.model import World
from oneiros.world.recorded import held_out_episodes, load_clips

_PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # not EPS, which is a program
CONTEXT = 8  # frames a dream is given to begin with


def load_world(
    path: Path | str, *, device: str = "cpu", float32: bool = False, codec: nn.Module | None = None
) -> World:
    """The world of a run folder, prepared for inference: see there. codec: of its maker's own, where it has one.
    ValueError when it holds none."""
    return World.load(path, device=device, codec=codec).prepare_for_inference(float32=float32)


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


def starts_from_data(
    world: World, run: Path, dataset: Dataset, episodes: Sequence[int], *, length: int = CONTEXT, count: int = 16
) -> list[Clip]:
    """Contexts spread evenly over the episodes."""
    clips = load_clips(world, run, dataset, episodes, length=world.tokenizer.whole(length))
    return [_as_start(clips, index, world) for index in spread(count, len(clips))]


def start_from_image(world: World, path: Path | str) -> Clip:
    """A picture, cropped to the middle and resized, as a context of one frame."""
    size = world.tokenizer.config
    if size.channels != 3:
        raise ValueError(f"{path}: this world dreams colour and depth; a picture has no depth to start from")
    try:
        with Image.open(path, formats=_PICTURES) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    frames = to_model(resize(pixels[None], size.height, size.width).copy())
    return Clip(frames[None], None, torch.ones(1, 1, dtype=torch.bool))


def starts_from_run(world: World, run: Path) -> list[Clip]:
    """The starts that training left in the run folder: "frames" uint8 (S, T, H, W, 3 or 5), "actions" (S, T-1, ...)."""
    path = inside(run, STARTS)
    if not path.is_file():
        raise ValueError(f"{run} holds no {STARTS} to begin from; name a dataset (--data) or a picture (--image)")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    frames, actions = tensors.get("frames", torch.zeros(0)), tensors.get("actions")
    size, spec = world.tokenizer.config, world.config.action_spec
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[2:] != (*size.size, 5 if size.depth else 3):
        raise ValueError(f"{path} is damaged: its frames are no pictures of {size.height} x {size.width}")
    if actions is not None and spec is not None:
        spec.check(actions, len(frames), frames.shape[1] - 1, per_step=world.config.frame_stride)
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


def save_starts(clip: Clip, folder: Path) -> None:
    """Keep the clips' first frames and actions as beginnings of dreams: uint8 frames (S, T, H, W, 3), or 5 with depth
    as two bytes of its code, and actions (S, T-1, ...)."""
    frames = clip.frames[:, :CONTEXT]
    content = to_uint8(frames).cpu().numpy()
    if frames.shape[2] == 4:
        codes = ((frames[:, :, 3].cpu() + 1) * (MAX_CODE / 2)).round().clamp(0, MAX_CODE).numpy().astype(np.uint16)
        content = np.concatenate([content, pack_codes(codes)], axis=-1)
    tensors = {"frames": torch.from_numpy(np.ascontiguousarray(content))}
    if clip.actions is not None:
        tensors["actions"] = clip.actions[:, : frames.shape[1] - 1].contiguous()
    with replacing(folder / STARTS) as temporary:
        save_file(tensors, temporary)
