"""Recorded moments at which dreams begin.

Legend: S moments, T frames before each, itself included, N codes per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from oneiros.console import bars
from oneiros.data.episodes.arrays import EpisodeArrays, load_frames
from oneiros.data.episodes.clips import frames_of
from oneiros.data.episodes.dataset import Dataset
from oneiros.disk import inside, replacing
from oneiros.records import CodeClip
from oneiros.run_folder import read_origin
from oneiros.world.model import World
from oneiros.world.recorded import check_dataset

STARTS = "beginnings.safetensors"
BEGINNINGS = 0.25  # of the moments are an episode's first frame: there every game begins, and recordings have few
_AT_ONCE = 16


def recorded_starts(
    world: World, run: Path | str, data: Path | str, *, count: int = 1024, seed: int = 0, held_out: bool = False
) -> CodeClip:
    """Moments of a dataset, drawn at random from the episodes that the world of `run` learned from, or `held_out`.

    Each has as many frames as the world looks back to, or fewer, `valid` leaving out the first, where its episode had
    only begun; a quarter are the first frames of episodes. Raises ValueError where the dataset's actions or speed are
    not the world's.
    """
    dataset = Dataset.open(data)
    check_dataset(world, dataset)
    origin = read_origin(run)
    learned = origin.of(dataset.fingerprint())
    known = learned.held_out if learned else ()
    every = [episode.index for episode in dataset.episodes]
    chosen = [index for index in every if (index in known) == held_out] or every
    size = world.tokenizer.config
    rng = np.random.default_rng(seed)
    if len(chosen) > count:
        chosen = sorted(rng.choice(chosen, count, replace=False).tolist())
    camera = next((camera.name for camera in dataset.cameras if camera.name == origin.camera_name), None)
    episodes = load_frames(
        dataset, chosen, height=size.height, width=size.width, camera=camera, depth=size.channels == 4
    )
    return _moments(world, episodes, count, rng)


def _moments(world: World, episodes: Sequence[EpisodeArrays], count: int, rng: np.random.Generator) -> CodeClip:
    lengths = np.array([_steps_of(episode) for episode in episodes])
    places = rng.choice(len(episodes), count, p=lengths / lengths.sum())
    rows = rng.integers(lengths[places]) * (rng.random(count) >= BEGINNINGS)
    parts = [_moment(world, episodes[place], int(row)) for place, row in zip(places, rows, strict=True)]
    codes, actions, valid = zip(*parts, strict=True)
    known = None if actions[0] is None else torch.from_numpy(np.stack(actions))
    return CodeClip(_encoded(world, np.stack(codes)), known, torch.from_numpy(np.stack(valid)))


def _steps_of(episode: EpisodeArrays) -> int:
    """How many rows a step was taken from: after the others there is nothing to dream."""
    if episode.outcomes is None:
        return max(1, len(episode.content) - 1)
    return max(1, int(episode.outcomes.valid.sum()))


def _moment(world: World, episode: EpisodeArrays, row: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Frames (T, H, W, 3 or 5), actions (T - 1, ...) and which frames there were (T,), the newest at `row`."""
    stride, spec = world.config.frame_stride, world.config.action_spec
    rows = row - stride * np.arange(world.config.window - 1, -1, -1)
    frames, valid = episode.content[np.maximum(rows, 0)], rows >= 0
    if spec is None or episode.actions is None:
        return frames, None, valid
    first = int(rows[valid][0])
    done = spec.join(episode.actions[first:row], stride)
    missing = np.zeros((len(rows) - 1 - len(done), *done.shape[1:]), done.dtype)
    return frames, np.concatenate([missing, done]), valid


@torch.no_grad()
def _encoded(world: World, frames: np.ndarray) -> torch.Tensor:
    """Codes (S, T, N) of frames uint8 (S, T, H, W, 3 or 5)."""
    codes = []
    with bars(transient=True) as track:
        advance = track("encoding where dreams begin", len(frames))
        for first in range(0, len(frames), _AT_ONCE):
            part = frames_of(frames[first : first + _AT_ONCE])
            codes.append(world.tokenizer.encode(part.to(world.device)))
            advance(len(part))
    return torch.cat(codes)


def save_starts(starts: CodeClip, folder: Path) -> None:
    """Keep moments in a run folder, for `read_starts`."""
    tensors = {"codes": starts.codes.int(), "valid": starts.valid}
    if starts.actions is not None:
        tensors["actions"] = starts.actions
    with replacing(folder / STARTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


def read_starts(world: World, folder: Path) -> CodeClip:
    """What `save_starts` kept. Raises ValueError where there is nothing, or it is damaged."""
    path = inside(folder, STARTS)
    if not path.is_file():
        raise ValueError(f"{folder} holds no {STARTS} to begin dreams from; name a dataset (--data)")
    try:
        tensors = load_file(path)
        codes, valid = tensors["codes"].long(), tensors["valid"]
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    expected = (world.config.window, world.tokenizer.num_codes)
    least, most = (int(codes.min()), int(codes.max())) if codes.numel() else (0, -1)
    if codes.shape[1:] != expected or valid.shape != codes.shape[:2] or valid.dtype != torch.bool:
        raise ValueError(f"{path} is damaged: its moments are not {expected[0]} frames of {expected[1]} codes")
    if not 0 <= least <= most < world.tokenizer.config.num_entries:
        raise ValueError(f"{path} is damaged: it holds codes that the tokenizer lacks")
    actions, spec = tensors.get("actions"), world.config.action_spec
    if actions is not None and spec is not None:
        spec.check(actions, len(codes), codes.shape[1] - 1, per_step=world.actions_per_step)
    return CodeClip(codes, actions, valid)
