"""What a frozen world imagines at the moments of a dataset, on disk, so that a policy learns without dreaming.

A folder of features is complete in itself: features.json (what they are of) and features.npy (moments, T, N, C) in half
precision, one moment after another, mapped from disk when read.

Legend: B batch, O observed frames, F imagined ones, T = O + F, N features of a frame, C their width.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from oneiros.console import bars, say
from oneiros.data.episodes.clips import EpisodeArrays, frames_of, spread
from oneiros.disk import alone, check_room, new_array, read_array, replacing
from oneiros.machine import best_device
from oneiros.policy.carry import observed_rows
from oneiros.policy.training.moments import Moments, actions_between, mean_and_std
from oneiros.records import Clip, CodeClip
from oneiros.world.codes import fingerprint_of
from oneiros.world.model import World

_INDEX, _FEATURES = "features.json", "features.npy"
_AT_ONCE = 32  # moments; more are no faster on a CPU
_FOR_STATISTICS = 256  # moments


@dataclass(frozen=True)
class FeatureSpec:
    """How far back and ahead is looked: `observed_frames` up to now, `imagined_frames` from here. layers: see
    `World.imagine`. quick: as a world prepared for play sees it (`World.prepare_for_inference`), not in float32."""

    observed_frames: int
    imagined_frames: int
    layers: tuple[int, ...]
    quick: bool

    def offsets(self, stride: int) -> tuple[int, ...]:
        """Rows from a moment to each of the T frames, for a world of this frame stride."""
        return tuple(stride * frame for frame in range(1 - self.observed_frames, 1 + self.imagined_frames))


def cached_features(
    cache: Path, world: World, episodes: Sequence[EpisodeArrays], moments: Moments, spec: FeatureSpec, *, data: str
) -> np.ndarray:
    """float16 (moments, T, N, C), mapped from disk; made first where `cache` does not hold them yet.

    episodes: of codes, or of frames for a tokenizer that looks back. data: changes whenever their content does.
    OSError where there is no room for them, ValueError for a damaged folder.
    """
    digest = hashlib.sha256(json.dumps([_describe(world, moments, spec), data]).encode()).hexdigest()[:16]
    folder = cache / f"features-{digest}"
    with alone(folder):
        if not folder.is_dir():
            _write(folder, world, episodes, moments, spec)
    return _read(folder, len(moments))


def feature_statistics(features: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, over moments spread evenly."""
    chosen = spread(_FOR_STATISTICS, len(features))
    return mean_and_std(np.concatenate([features[moment].reshape(-1, features.shape[-1]) for moment in chosen]))


def context(
    episodes: Sequence[EpisodeArrays], moments: Moments, chosen: Sequence[int], *, num_frames: int, stride: int
) -> Clip | CodeClip:
    """Frames observed at the chosen moments, or their codes, and the actions between them."""
    places = [moments.where(moment) for moment in chosen]
    content = np.stack([episodes[place].content[observed_rows(row, num_frames, stride)] for place, row in places])
    done = [
        actions_between(moments.demonstrations[place].actions, moments.spec, row, num_frames, stride)
        for place, row in places
    ]
    actions, valid = torch.from_numpy(np.stack(done)), torch.ones(content.shape[:2], dtype=torch.bool)
    if content.ndim == 3:
        return CodeClip(torch.from_numpy(content.astype(np.int64)), actions, valid)
    return Clip(frames_of(content), actions, valid)


def _describe(world: World, moments: Moments, spec: FeatureSpec) -> dict:
    return {
        "world": fingerprint_of(world),
        "config": world.config.to_json(),
        "every": moments.every,
        "episodes": [each.index for each in moments.demonstrations],
        **asdict(spec),
    }


def _write(folder: Path, world: World, episodes: Sequence[EpisodeArrays], moments: Moments, spec: FeatureSpec) -> None:
    """The folder appears whole or not at all."""
    with replacing(folder, "features") as temporary:
        temporary.mkdir()
        _fill(temporary / _FEATURES, world, episodes, moments, spec)
        (temporary / _INDEX).write_text(json.dumps(_describe(world, moments, spec), indent=1))


def _fill(path: Path, world: World, episodes: Sequence[EpisodeArrays], moments: Moments, spec: FeatureSpec) -> None:
    world = copy.deepcopy(world).to(best_device()).eval()
    if spec.quick:
        world.prepare_for_inference()
    kept: np.ndarray | None = None
    with bars(transient=True) as track:
        advance = track("imagining moments", len(moments))
        for first in range(0, len(moments), _AT_ONCE):
            chosen = range(first, min(first + _AT_ONCE, len(moments)))
            clip = context(episodes, moments, chosen, num_frames=spec.observed_frames, stride=world.config.frame_stride)
            _, features = world.imagine(clip.to(world.device), spec.imagined_frames, layers=spec.layers)
            if kept is None:
                shape = (len(moments), *features.shape[1:])
                what = f"features of {len(moments):,} moments take"
                say(check_room(path.parent.parent, 2 * int(np.prod(shape)), what, there=True))
                kept = new_array(path, np.float16, shape)
            kept[chosen.start : chosen.stop] = features.half().cpu().numpy()
            advance(len(chosen))
    assert isinstance(kept, np.memmap)
    kept.flush()


def _read(folder: Path, count: int) -> np.ndarray:
    try:
        features = read_array(folder / _FEATURES, np.float16, (count, None, None, None))
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it and train again") from error
    return features
