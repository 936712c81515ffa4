"""Dreams of held-out clips while a world trains, in numbers and a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from oneiros.data.episodes.clips import spread
from oneiros.data.frames import to_uint8
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.records import Clip
from oneiros.sampling import Sampling
from oneiros.world.metrics import psnr
from oneiros.world.model import World
from oneiros.world.rollout import begin, context_of, steps
from oneiros.world.starts import CONTEXT

NUM_CLIPS, HORIZON = 8, 8
_DRAWN_CLIPS, _DRAWN_CONTEXT = 3, 3
_HORIZONS = (1, 4, 8)


def draw(world: World, clip: Clip, step: int, path: Path) -> dict[str, float]:
    """Dream on from the clip's first frames with its true actions, codes drawn as in play.

    Writes real and dreamed frames to `path`. Returns the loss on the clip and the PSNR by horizon, beside that of
    repeating the last frame given.
    """
    clip = clip.to(world.device)
    stride, length = world.tokenizer.temporal_stride, world.tokenizer.whole(clip.frames.shape[1])
    clip, context = context_of(clip, length), world.tokenizer.whole(min(CONTEXT, length - stride))
    numbers = {f"held_out/{name.removeprefix('world/')}": float(value) for name, value in world(clip).parts.items()}
    actions = None if clip.actions is None else clip.actions[:, context - 1 :]
    start = begin(world, context_of(clip, context))
    options = {"sampling": Sampling(), "generator": torch.Generator(world.device).manual_seed(0)}
    dreamed = steps(world, start, actions, num_frames=clip.frames.shape[1] - context, **options)
    dream = torch.cat([step.frames for step in dreamed], 1)
    real, dreamed = to_uint8(clip.frames[:, context:]), to_uint8(dream)
    copied = to_uint8(clip.frames[:, context - 1 : context])
    by_horizon, by_copying = psnr(dreamed, real).mean(0).tolist(), psnr(copied, real).mean(0).tolist()
    for horizon in (h for h in _HORIZONS if h <= len(by_horizon)):
        numbers[f"held_out/psnr_{horizon}"] = by_horizon[horizon - 1]
        numbers[f"held_out/copy_psnr_{horizon}"] = by_copying[horizon - 1]
    _save_picture(clip.frames, dream, context, _title(step, by_horizon, by_copying), path)
    return numbers


def _title(step: int, by_horizon: list[float], by_copying: list[float]) -> str:
    horizon = min(4, len(by_horizon))
    return (
        f"step {step:,}, held-out clips, true actions: after {horizon} frames PSNR {by_horizon[horizon - 1]:.1f} dB "
        f"(last frame repeated {by_copying[horizon - 1]:.1f} dB)"
    )


def _save_picture(real: Tensor, dream: Tensor, context: int, title: str, path: Path) -> None:
    shown = min(context, _DRAWN_CONTEXT)
    groups = []
    for i in spread(_DRAWN_CLIPS, len(real)):
        dreamed = torch.cat([real[i, context - shown : context], dream[i].to(real)])
        groups.append([*frame_rows("real", real[i, context - shown :]), *frame_rows("dreamed", dreamed)])
    save_strips(path, title, groups, num_given=shown)
