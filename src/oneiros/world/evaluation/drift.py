"""How dreams age: what a long dream still shares with real frames after 10, 100 or 1,000 frames.

Nothing real can be set beside frame 1,000 of a dream, so its frames are compared in kind: are they as sharp, as lively
and as varied in their codes as real ones, and do they still look like a place that exists?

Legend: D dreams side by side, w frames of a window, h x w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.frames import to_uint8
from oneiros.records import Clip
from oneiros.world import metrics
from oneiros.world.rollout import begin, context_of, steps

if TYPE_CHECKING:
    from oneiros.world.evaluation.config import ClipSource, EvalConfig
    from oneiros.world.model import World

_REAL_CLIPS = 64  # that the reference is taken from


@dataclass(frozen=True)
class DriftFrames:
    """frames: uint8 (D, number of ages, h, w, 3), what each dream shows at each age; starts: (D, h, w, 3)."""

    starts: Tensor
    frames: Tensor
    ages: tuple[int, ...]


@dataclass(frozen=True)
class _Real:
    """frames: (n, L, C, h, w) of n real clips in [-1, 1]; episodes: (n,) int64, where each comes from."""

    frames: Tensor
    episodes: Tensor


@torch.no_grad()
def measure_drift(
    world: World, clips: ClipSource, *, config: EvalConfig, track: Track = silent
) -> tuple[dict[str, Any] | None, DriftFrames | None]:
    """Statistics of long dreams by age, beside the same statistics of as many real frames; and what they look like.

    The dreams start in different held-out episodes as far as there are any, and obey recorded actions of held-out
    clips, one clip's after the other's.
    """
    if config.drift.frames == 0:
        return None, None
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(config.seed)).tolist()
    real = _real(clips, order[:_REAL_CLIPS])
    chosen = _from_different_episodes(clips, order, config.drift.dreams)
    width = min(config.drift.window, config.clip_length, config.drift.frames)
    context, actions = _long_start(clips, chosen, order, config)
    windows = _dream_windows(world, context, actions, width, config=config, track=track)
    groups = real.frames[:, :width].split(len(chosen))
    groups = groups[:-1] if len(groups) > 1 else groups  # the last one may be smaller
    episodes = torch.tensor([clips.where(index)[0] for index in chosen])
    by_age = [_kind(window, world) | _nearest(window, episodes, real) for window in windows]
    references = [_kind(group, world) for group in groups]
    reference = {name: sum(values[name] for values in references) / len(references) for name in references[0]}
    summary = {
        "frames": config.drift.ages,
        "dreams": len(chosen),
        "window": width,
        **{name: [values[name] for values in by_age] for name in by_age[0]},
        "real": reference | _nearest(real.frames[:, :width], real.episodes, real),
    }
    newest = torch.stack([to_uint8(window[:, -1]).cpu() for window in windows], 1)
    return summary, DriftFrames(to_uint8(context.frames[:, -1]).cpu(), newest, tuple(config.drift.ages))


def _real(clips: ClipSource, indices: list[int]) -> _Real:
    frames = torch.cat([clips.batch(indices[i : i + 16]).frames for i in range(0, len(indices), 16)])
    return _Real(frames, torch.tensor([clips.where(index)[0] for index in indices]))


def _from_different_episodes(clips: ClipSource, order: list[int], count: int) -> list[int]:
    """The first clip of each episode in `order`, then further ones where there are too few episodes."""
    first: dict[int, int] = {}
    for index in order:
        first.setdefault(clips.where(index)[0], index)
    others = [index for index in order if index not in first.values()]
    return [*first.values(), *others][:count]


def _long_start(
    clips: ClipSource, chosen: list[int], order: list[int], config: EvalConfig
) -> tuple[Clip, Tensor | None]:
    """Contexts (D, T, ...) and actions (D, at least `drift.frames`, ...): each start's own, then other clips'."""
    batch = clips.batch(chosen)
    context = context_of(batch, config.context)
    if batch.actions is None:
        return context, None
    actions, used = batch.actions[:, config.context - 1 :], 0
    while actions.shape[1] < config.drift.frames:
        following = clips.batch([order[(used + d) % len(order)] for d in range(len(chosen))]).actions
        assert following is not None
        actions, used = torch.cat([actions, following], 1), used + len(chosen)
    return context, actions


def _dream_windows(
    world: World, context: Clip, actions: Tensor | None, width: int, *, config: EvalConfig, track: Track
) -> list[Tensor]:
    """The `width` frames up to each age: (D, width, C, h, w) in [-1, 1]."""
    ages, kept, count = config.drift.ages, {}, 0
    advance = track(f"{len(context.frames)} long dreams", config.drift.frames)
    generator = torch.Generator(world.device).manual_seed(config.seed)
    options = {"num_frames": config.drift.frames, "sampling": config.sampling, "generator": generator}
    for step in steps(world, begin(world, context), actions, **options):
        for frame in step.frames.unbind(1):
            count += 1
            if any(age - width < count <= age for age in ages):
                kept[count] = frame
        advance(step.frames.shape[1])
    return [torch.stack([kept[t] for t in range(age - width + 1, age + 1)], 1) for age in ages]


def _kind(window: Tensor, world: World) -> dict[str, float]:
    """Sharpness and motion in grey levels, entropy of codes in bits, of frames (D, w, C, h, w)."""
    frames, whole = to_uint8(window), window[:, : world.tokenizer.whole(window.shape[1])]
    return {
        "sharpness": metrics.sharpness(frames).mean().item(),
        "motion": metrics.motion(frames).mean().item(),
        "code_entropy_bits": metrics.code_entropy(world.tokenizer.encode(whole.to(world.device)).cpu()),
    }


def _nearest(window: Tensor, episodes: Tensor, real: _Real) -> dict[str, float | None]:
    """Mean distance of frames (D, w, C, h, w) to the most similar real frame of another episode than their own."""
    distances = []
    for frames, episode in zip(to_uint8(window).cpu(), episodes, strict=True):
        gallery = to_uint8(real.frames[real.episodes != episode]).flatten(0, 1)
        if len(gallery):
            distances.append(metrics.nearest_distance(frames, gallery).mean())
    return {"nearest_real_rmse": torch.stack(distances).mean().item() if distances else None}
