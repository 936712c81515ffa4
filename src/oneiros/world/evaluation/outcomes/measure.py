"""What a world expects of rewards and ends, beside what came: on real frames, and in dreams by horizon.

Legend: B clips, S steps, H steps of a dream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.episodes.clips import Clips, EpisodeArrays
from oneiros.records import Clip, Outcomes
from oneiros.world.evaluation.config import EvalConfig
from oneiros.world.evaluation.outcomes.scores import (
    Told,
    best_threshold,
    correlation,
    end_scores,
    reliability,
    time_shift,
)
from oneiros.world.rollout import begin, context_of

if TYPE_CHECKING:
    from oneiros.world.model import World

_FRAMES_AT_ONCE = 64  # encoded together
_STEPS_AT_ONCE = 256  # looked at together


@torch.no_grad()
def measure_outcomes(
    world: World, episodes: Sequence[EpisodeArrays], *, config: EvalConfig, track: Track = silent
) -> dict[str, Any] | None:
    """Figures of rewards and ends over whole held-out episodes: see docs/metrics.md. None where the world knows of
    neither, {"left_out": why} where the episodes do not."""
    if world.outcome_head is None:
        return None
    if not any(episode.outcomes is not None and episode.outcomes.valid.any() for episode in episodes):
        return {"left_out": "the data holds neither rewards nor ends"}
    advance = track("rewards and ends on real frames", len(episodes))
    watched = []
    for episode in episodes:
        watched += watch(world, episode)
        advance(1)
    dreamed = dream(world, episodes, config=config, track=track)
    return _summary(world, watched, dreamed)


def watch(world: World, episode: EpisodeArrays) -> list[Told]:
    """What the world expects of every step of an episode while it sees the real frames; none of an episode too short
    for a step."""
    spec, tokenizer = world.config.action_spec, world.tokenizer
    stride = world.config.frame_stride * tokenizer.temporal_stride
    clip = _whole(world, episode, stride)
    if clip is None:
        return []
    codes = _encoded(world, clip.frames.to(world.device))
    actions = None
    if spec is not None and clip.actions is not None:
        actions = spec.join(clip.actions.to(world.device), tokenizer.temporal_stride)
    conditions = world.action_embedding(actions, codes.shape[1], 1)
    rewards, ends = [], []
    for first in range(1, codes.shape[1], _STEPS_AT_ONCE):
        oldest, last = max(0, first - world.config.window), first + _STEPS_AT_ONCE
        outputs = world.dynamics(codes[:, oldest:last], conditions[:, oldest:last])[:, first - oldest :]
        reward, end = world.outcome_head.expected(world.dynamics.step_features(outputs))  # type: ignore[union-attr]
        rewards.append(reward[0].cpu())
        ends.append(end[0].cpu())
    assert clip.outcomes is not None
    return _told(torch.cat(rewards)[None], torch.cat(ends)[None], clip.outcomes.join(tokenizer.temporal_stride))


def dream(world: World, episodes: Sequence[EpisodeArrays], *, config: EvalConfig, track: Track = silent) -> list[Told]:
    """What dreams of `config.horizon` frames, drawn as in play and with the recorded actions, expect of their steps.
    Clips are drawn from the whole of the episodes, their ends included."""
    stride, per_step = world.config.frame_stride, world.tokenizer.temporal_stride
    clips = Clips(episodes, world.config.action_spec, length=config.clip_length, stride=stride, to_the_end=True)
    chosen = _begun(clips, episodes, config, stride)
    advance = track("rewards and ends in dreams", len(chosen))
    generator, told = torch.Generator(world.device).manual_seed(config.seed), []
    for at in range(0, len(chosen), config.batch_size):
        clip = clips.batch(chosen[at : at + config.batch_size])
        assert isinstance(clip, Clip)
        assert clip.outcomes is not None
        first, steps = config.context - 1, config.horizon // per_step
        state, script = begin(world, context_of(clip, config.context)), None
        if world.config.action_spec is not None and clip.actions is not None:
            rows = clip.actions[:, first : first + steps * per_step].to(world.device)
            script = world.config.action_spec.join(rows, per_step)
        rewards, ends = [], []
        for step in range(steps):
            action = None if script is None else script[:, step]
            state, _ = world.step_codes(state, action, generator=generator, sampling=config.sampling)
            reward, end = world.outcome_head.expected(state.step_features)  # type: ignore[union-attr]
            rewards.append(reward.cpu())
            ends.append(end.cpu())
        outcomes = clip.outcomes.part(first, first + steps * per_step).join(per_step)
        told += _told(torch.stack(rewards, 1), torch.stack(ends, 1), outcomes)
        advance(len(clip.frames))
    return told


def _whole(world: World, episode: EpisodeArrays, stride: int) -> Clip | None:
    """The episode as one clip that reaches its last step, one more frame behind it where that has none."""
    assert episode.outcomes is not None
    content, actions, outcomes = episode.content, episode.actions, episode.outcomes
    if bool(outcomes.valid[-1]):
        content = np.concatenate([content, content[-1:]])
        actions = None if actions is None else np.concatenate([actions, actions[-1:]])
        outcomes = outcomes.part(0, len(content))
    steps, first = divmod(len(content) - 1, stride)
    if not steps:
        return None
    longer = replace(episode, content=content, actions=actions, outcomes=outcomes)
    length, skipped = 1 + steps * world.tokenizer.temporal_stride, world.config.frame_stride
    clip = Clips([longer], world.config.action_spec, length=length, stride=skipped).batch([first])
    assert isinstance(clip, Clip)
    return clip


def _encoded(world: World, frames: Tensor) -> Tensor:
    """Codes (1, T', N) of frames (1, T, C, H, W), a few at a time where the tokenizer looks at each alone."""
    if world.tokenizer.lookback or world.tokenizer.temporal_stride > 1:
        return world.tokenizer.encode(frames)
    return torch.cat([world.tokenizer.encode(part) for part in frames.split(_FRAMES_AT_ONCE, 1)], 1)


def _begun(clips: Clips, episodes: Sequence[EpisodeArrays], config: EvalConfig, stride: int) -> list[int]:
    """Clips whose context is real and followed by a step that was taken, drawn by chance."""
    valid = {episode.index: episode.outcomes.valid for episode in episodes if episode.outcomes is not None}

    def fits(clip: int) -> bool:
        episode, row = clips.where(clip)
        newest = row + (config.context - 1) * stride
        return newest < len(valid[episode]) and bool(valid[episode][newest])

    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(config.seed)).tolist()
    return [clip for clip in order if fits(clip)][: config.clips]


def _told(reward: Tensor, end: Tensor, outcomes: Outcomes) -> list[Told]:
    """Sequences (S,) of expectations (B, S)."""
    paid, ended = outcomes.reward, outcomes.terminated
    return [
        Told(
            reward[b], end[b], None if paid is None else paid[b], None if ended is None else ended[b], outcomes.valid[b]
        )
        for b in range(len(reward))
    ]


def _summary(world: World, watched: Sequence[Told], dreamed: Sequence[Told]) -> dict[str, Any]:
    measured: dict[str, Any] = {"steps": sum(int(each.valid.sum()) for each in watched), "dreams": len(dreamed)}
    measured["reward"] = measured["end"] = None
    if world.config.pays and all(each.paid is not None for each in watched):
        measured["reward"] = _rewards(watched, dreamed)
    if world.config.ends and all(each.ended is not None for each in watched):
        measured["end"] = _ends(watched, dreamed)
    return measured


def _rewards(watched: Sequence[Told], dreamed: Sequence[Told]) -> dict[str, Any]:
    said, paid = _pooled(watched, "reward")
    longest = max((len(each.reward) for each in dreamed), default=0)
    by_step = [_pooled(_at(dreamed, step), "reward") for step in range(longest)]
    sums = [(each.reward[each.valid].sum(), each.paid[each.valid].sum()) for each in dreamed if each.paid is not None]
    returns = [torch.stack(column) for column in zip(*sums, strict=True)]
    return {
        "watched": {"error": _mean((said - paid).abs()), "correlation": correlation(said, paid)},
        "constant": _mean((paid - paid.median()).abs()) if len(paid) else None,
        "error": [_mean((a - b).abs()) for a, b in by_step],
        "correlation": [correlation(a, b) for a, b in by_step],
        "return_correlation": correlation(returns[0], returns[1]) if returns else None,
        "time_shift": time_shift(*zip(*((each.reward, each.paid, each.valid) for each in watched), strict=True)),
    }


def _ends(watched: Sequence[Told], dreamed: Sequence[Told]) -> dict[str, Any]:
    probability, ended = _pooled(watched, "end")
    in_dreams, ended_there = _pooled(dreamed, "end")
    threshold = best_threshold(probability)
    return {
        "rate": _mean(ended.float()),
        "expected": _mean(probability),
        "watched": end_scores(watched, threshold),
        "watched_half": end_scores(watched, 0.5),
        "dreamed": end_scores(dreamed, threshold),
        "dreamed_rate": _mean(ended_there.float()),
        "dreamed_expected": _mean(in_dreams),
        "reliability": reliability(probability, ended),
        "dreamed_reliability": reliability(in_dreams, ended_there),
        "time_shift": time_shift(*zip(*((each.end, each.ended, each.valid) for each in watched), strict=True)),
    }


def _at(sequences: Sequence[Told], step: int) -> Iterator[Told]:
    """One step of each sequence that is so long."""
    for each in sequences:
        parts = (each.reward, each.end, each.paid, each.ended, each.valid)
        yield Told(*(None if part is None else part[step : step + 1] for part in parts))  # type: ignore[arg-type]


def _pooled(sequences: Sequence[Told] | Iterator[Told], name: str) -> tuple[Tensor, Tensor]:
    """What was said of all valid steps and what came, (n,) each. name: reward or end."""
    said, came = [torch.zeros(0)], [torch.zeros(0)]
    for each in sequences:
        true = each.paid if name == "reward" else each.ended
        assert true is not None
        said.append((each.reward if name == "reward" else each.end)[each.valid])
        came.append(true[each.valid].float())
    return torch.cat(said), torch.cat(came)


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None
