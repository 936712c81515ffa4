"""From a finished tokenizer or world and a dataset to the same run with a decoder that draws sharp."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource, check_resumed
from oneiros.data.frames import to_uint8
from oneiros.disk import contained, inside, replacing
from oneiros.machine import best_device
from oneiros.records import Clip
from oneiros.run_folder import Origin, read_config, read_origin
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.world.built_in import STARTS
from oneiros.world.metrics import psnr, sharpness
from oneiros.world.model import World
from oneiros.world.rollout import begin, context_of
from oneiros.world.settings import DecoderSettings
from oneiros.world.starts import load_world
from oneiros.world.tokenizer import Tokenizer
from oneiros.world.training.drawn_frames import drawn_again, frames_of, save_picture, some_frames
from oneiros.world.training.sharpening import DREAMED_FRAMES, DREAMED_FROM, Dream, Sharpening

__all__ = ["DecoderSettings", "prepare", "run"]


def run(settings: DecoderSettings) -> FitResult:
    """Make the decoder of the run `settings.run` draw sharp, into the run folder `settings.out`.

    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or a run folder.
    """
    return train(settings, prepare)


def prepare(settings: DecoderSettings) -> Recipe:
    """The decoder of the settings' run with a critic, and the frames that both learn from."""
    torch.manual_seed(settings.seed)
    source = settings.out if settings.resume else settings.run
    model = _load(source)
    tokenizer = model.tokenizer if isinstance(model, World) else model
    sharpening = Sharpening(tokenizer, _dream_of(source) if isinstance(model, World) else None)
    before, dataset = read_origin(source), Dataset.open(settings.data)
    learned = before.of(dataset.fingerprint())
    hold_out = learned.held_out if learned else ()
    if settings.resume:
        hold_out = check_resumed(settings.out, dataset, data_changed=settings.data_changed)
    cache = settings.cache or contained(settings.run, "cache")
    camera = settings.camera or before.camera_name
    episodes = FrameSource(dataset, tokenizer.config.size, tokenizer.config.depth, camera, cache, hold_out).episodes()
    clips, measured = episodes.clips(length=1), some_frames(episodes.held_out_clips(length=1), tokenizer.config)
    if isinstance(model, World):
        clips = episodes.clips(length=DREAMED_FROM + DREAMED_FRAMES, stride=model.config.frame_stride)
    return Recipe(
        title="decoder",
        model=sharpening,
        num_samples=len(clips),
        make_batch=clips.batch if isinstance(model, World) else partial(frames_of, clips, tokenizer.config),
        save=partial(_save, model, source=settings.run, data=episodes.origin),
        measure=lambda step, picture: _draw(tokenizer, measured, step, picture),
    )


def _dream_of(run: Path) -> Dream:
    """What the world of a run dreams, drawn as in play. A copy of its own: what is prepared for play is not saved."""
    world = load_world(run, device=str(best_device()))

    def dream(clip: Clip) -> Tensor:
        context = context_of(clip, DREAMED_FROM)
        state = begin(world, replace(context, valid=torch.ones_like(context.valid)))  # what follows padding is not used
        codes = None
        for frame in range(DREAMED_FROM - 1, DREAMED_FROM + DREAMED_FRAMES - 1):
            state, codes = world.step_codes(state, None if clip.actions is None else clip.actions[:, frame])
        assert codes is not None
        return codes[:, None]

    return dream


def _load(run: Path) -> World | Tokenizer:
    kind = read_config(run).kind
    if kind not in (World.kind, Tokenizer.kind):
        raise ValueError(f"{run} holds a {kind}; only a tokenizer's or a world's decoder draws frames")
    return World.load(run) if kind == World.kind else Tokenizer.load(run)


def _save(model: World | Tokenizer, folder: Path, *, recipe: Mapping[str, Any], source: Path, data: Origin) -> None:
    model.save(folder, recipe=recipe, data=data)
    if isinstance(model, World) and inside(source, STARTS).is_file():
        with replacing(folder / STARTS) as temporary:
            shutil.copyfile(inside(source, STARTS), temporary)


def _draw(tokenizer: Tokenizer, frames: Tensor, step: int, path: Path) -> dict[str, float]:
    """Held-out frames, as `some_frames` gives them, above what the decoder draws; measures all, draws a few."""
    drawn = drawn_again(tokenizer, frames)
    ours, real = to_uint8(drawn), to_uint8(frames[:, -1:])
    error, sharp = float(psnr(ours, real).mean()), float(sharpness(ours).mean() / sharpness(real).mean())
    title = f"step {step:,}, held-out frames: {sharp:.2f} as sharp as real, PSNR {error:.1f} dB"
    save_picture(path, title, frames, "drawn", drawn)
    return {"held_out/psnr": error, "held_out/sharpness": sharp}
