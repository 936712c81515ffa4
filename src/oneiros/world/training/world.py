"""From a dataset and a trained tokenizer, or from codes alone, to a trained world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.agreement import Controls, check_agreement
from oneiros.data.augment import augmented
from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import Episodes, FrameSource, check_resumed, joined
from oneiros.disk import contained
from oneiros.machine import best_device
from oneiros.records import Clip, CodeClip
from oneiros.run_folder import held_out_before, read_config, read_origin
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.settings import check_as_begun, shared
from oneiros.train.warm_start import copy_weights
from oneiros.world.codes import fingerprint_of, read_codes
from oneiros.world.config import WorldConfig
from oneiros.world.encoding import write_codes
from oneiros.world.model import TOKENIZER, World
from oneiros.world.nn.outcomes import some_values, values_of
from oneiros.world.nn.own_codec import make_codec
from oneiros.world.rollout import context_of
from oneiros.world.settings import WorldSettings
from oneiros.world.starts import CONTEXT, save_starts
from oneiros.world.tokenizer import Tokenizer
from oneiros.world.training.held_out import HORIZON, NUM_CLIPS, draw

__all__ = ["WorldSettings", "prepare", "run"]


def run(settings: WorldSettings) -> FitResult:
    """Train a world on a dataset's episodes, the held-out ones left out, into the run folder `settings.out`.

    The dataset is encoded once; the codes stay in the cache and are a dataset of their own (`settings.codes`).
    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    return train(settings, prepare)


def prepare(settings: WorldSettings) -> Recipe:
    """The world of the settings, and the clips that it learns from."""
    tokenizer = _load_tokenizer(settings)
    sources = _frame_sources(settings, tokenizer)
    episodes = _read_episodes(settings, tokenizer, sources)
    world = _make_world(settings, tokenizer, episodes)
    _check_keys(world, episodes)
    preset = settings.presets[settings.preset]
    beyond = preset.clip_frames - preset.model["window"]
    latents = world.config.window + beyond
    clips = episodes.clips(
        length=1 + (latents - 1) * tokenizer.temporal_stride,
        stride=settings.frame_stride,
        to_the_end=world.outcome_head is not None,
    )
    shown = sources[0].held_out(episodes.origin.held_out) if sources else episodes
    held_out = _held_out_clip(shown, tokenizer, settings.frame_stride)

    recent = range(clips.first_from(settings.recent_from), len(clips))

    def make_batch(indices: Sequence[int], seeds: Tensor) -> Any:
        batch = clips.batch(_preferring(recent, settings.recent, indices, seeds), seeds)
        return augmented(batch) if settings.augment else batch

    def save(folder: Path, *, recipe: Mapping[str, Any]) -> None:
        world.save(folder, recipe=recipe, data=episodes.origin)
        save_starts(context_of(held_out, tokenizer.whole(CONTEXT)), folder)

    return Recipe(
        title="world",
        model=world,
        num_samples=len(clips),
        make_batch=make_batch,
        save=save,
        measure=lambda step, picture: draw(world, held_out, step, picture),
    )


def _preferring(recent: range, share: float, indices: Sequence[int], seeds: Tensor) -> list[int]:
    """The same clips, but for a share of them, by their seeds, some of the recent ones."""
    chosen = [Random(int(seed)).random() < share for seed in seeds]
    return [
        recent[index % len(recent)] if replaced and recent else int(index)
        for index, replaced in zip(indices, chosen, strict=True)
    ]


def _check_keys(world: World, episodes: Episodes) -> None:
    """Before the training, not in it, where an episode holds more keys at once than the action head can say."""
    spec = world.config.action_spec
    if world.action_head is None or spec is None or spec.kind != "keys":
        return
    for episode in episodes.train:
        assert episode.actions is not None
        rows = torch.tensor(episode.actions)
        if len(rows) >= world.actions_per_step:
            held = rows.unfold(0, world.actions_per_step, 1).any(-1)[None]  # in any row of a step
            world.action_head.check(held, torch.ones(held.shape[:2], dtype=torch.bool), f"episode {episode.index}")


def _load_tokenizer(settings: WorldSettings) -> Tokenizer:
    runs = [run for run in (settings.tokenizer, settings.codes, settings.warm_start) if run]
    if not runs:
        raise ValueError(
            "a world needs a tokenizer: train one with `oneiros train tokenizer DATA --out RUN`, then --tokenizer RUN"
        )
    folder = settings.out if settings.resume else runs[0]
    if (folder / TOKENIZER).is_dir():  # of a world's run, or of codes
        folder = folder / TOKENIZER
    codec = make_codec(settings.codec)
    return Tokenizer.load(folder, codec=codec, trainable=settings.joint).to(best_device())


def _frame_sources(settings: WorldSettings, tokenizer: Tokenizer) -> list[FrameSource]:
    """Of each dataset; none with --codes."""
    if (settings.data is None) == (settings.codes is None):
        raise ValueError("a world learns either from datasets or, with --codes, from a folder of codes; name one")
    if settings.data is None:
        return []
    if settings.further and settings.recent:
        raise ValueError("--recent is of one dataset that grows; name no further ones")
    run = settings.tokenizer or settings.warm_start
    assert run is not None
    camera = settings.camera or read_origin(run).camera_name
    cache, config = settings.cache or contained(run, "cache"), tokenizer.config
    sources, changed = [], settings.data_changed
    for place, data in enumerate((settings.data, *settings.further)):
        dataset = Dataset.open(data)
        before = check_resumed(settings.out, dataset, data_changed=changed, place=place) if settings.resume else ()
        sources.append(FrameSource(dataset, config.size, config.depth, camera, cache, before))
    if len({source.dataset.fingerprint() for source in sources}) < len(sources):
        raise ValueError("a dataset is named twice; each may come once")
    return sources


def _read_episodes(settings: WorldSettings, tokenizer: Tokenizer, sources: Sequence[FrameSource]) -> Episodes:
    """Episodes of codes; or of frames, where codes depend on the clip or change in training."""
    from_frames = settings.joint or settings.augment or tokenizer.lookback > 0
    if not sources:
        assert settings.codes is not None
        if from_frames:
            raise ValueError(
                f"{settings.codes}: --joint, --augment and temporal convolutions learn from frames; name a dataset"
            )
        episodes = read_codes(settings.codes, tokenizer)
        if not settings.resume:
            return episodes
        origin, changed = episodes.origin, settings.data_changed
        indices = (*origin.train, *origin.held_out)
        before = held_out_before(settings.out, settings.codes, origin.fingerprint, indices, data_changed=changed)
        return episodes.holding_out(before)
    if from_frames:
        return joined([source.episodes() for source in sources])
    return joined([_codes_of(source, tokenizer, settings.codec) for source in sources])


def _codes_of(source: FrameSource, tokenizer: Tokenizer, codec: str | None) -> Episodes:
    folder = source.cache / f"codes-{fingerprint_of(tokenizer)}-{source.key}"
    write_codes(folder, source, tokenizer, codec=codec)
    return read_codes(folder, tokenizer).holding_out(source.hold_out)


def _make_world(settings: WorldSettings, tokenizer: Tokenizer, episodes: Episodes) -> World:
    torch.manual_seed(settings.seed)
    if settings.resume:
        config = WorldConfig.from_json(read_config(settings.out, World.kind).model)
        found = Controls(str(settings.data or settings.codes), episodes.action_spec, episodes.fps)
        check_agreement(found, Controls(str(settings.out), config.action_spec, config.fps * config.frame_stride))
        check_as_begun(settings, config)
        return World(config, tokenizer)
    start = World.load(settings.warm_start, codec=make_codec(settings.codec)) if settings.warm_start else None
    fields = settings.model_fields(WorldConfig)
    config = replace(start.config, **settings.model) if start else WorldConfig(**fields)
    config = replace(
        config,
        action_spec=episodes.action_spec,
        fps=episodes.fps / settings.frame_stride,
        window=settings.context or config.window,
        tokens_per_step=min(config.tokens_per_step, tokenizer.num_codes),
        **_outcomes_of(episodes, settings.frame_stride * tokenizer.temporal_stride),
    )
    world = World(replace(config, **shared(settings, WorldConfig)), tokenizer)
    if start:
        copy_weights(world, start, skip="tokenizer.")
    return world


def _outcomes_of(episodes: Episodes, stride: int) -> dict[str, Any]:
    """What steps of `stride` rows paid, and how many ended their episode: fields of the world's config."""
    paid, steps_seen, ended = np.zeros(0, np.float32), 0, 0
    for outcomes in (episode.outcomes for episode in episodes.train if episode.outcomes is not None):
        for phase in range(stride):
            rows = outcomes.valid.shape[-1] - phase
            steps = outcomes.part(phase, phase + -(-rows // stride) * stride).join(stride)
            if steps.reward is not None:
                paid = some_values(np.concatenate([paid, steps.reward[steps.valid].numpy()]))
            if steps.terminated is not None:
                steps_seen += int(steps.valid.sum())
                ended += int(steps.terminated[steps.valid].sum())
    return {
        "reward_values": values_of(paid) if len(paid) else (),
        "end_rate": ended / steps_seen if 0 < ended < steps_seen else 0.0,
    }


def _held_out_clip(episodes: Episodes, tokenizer: Tokenizer, stride: int) -> Clip:
    """Clips of frames to look at while training, spread over the held-out episodes. From codes, as these decode."""
    clips = episodes.held_out_clips(length=CONTEXT + HORIZON, stride=stride)
    batch = clips.batch(spread(NUM_CLIPS, len(clips)))
    if isinstance(batch, CodeClip):
        frames = tokenizer.decode(batch.codes.to(tokenizer.codebook.device)).cpu()
        batch = Clip(frames, batch.actions, batch.valid, batch.task, outcomes=batch.outcomes)
    if batch.frames.shape[1] <= tokenizer.temporal_stride:
        least = 1 + tokenizer.temporal_stride
        raise ValueError(f"held-out episodes are shorter than {least} frames at stride {stride}; choose a smaller one")
    return batch
