"""From a dataset to a trained tokenizer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oneiros.data.augment import augmented
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource, check_resumed
from oneiros.data.frames import to_uint8
from oneiros.disk import contained
from oneiros.run_folder import read_config, read_origin
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.settings import shared
from oneiros.train.state import STATE
from oneiros.train.warm_start import copy_weights
from oneiros.world.metrics import psnr
from oneiros.world.settings import DECODER_PRESETS, DecoderSettings, TokenizerSettings
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from oneiros.world.training import decoder
from oneiros.world.training.drawn_frames import drawn_again, frames_of, save_picture, some_frames

__all__ = ["TokenizerSettings", "prepare", "run"]

_SHARP = "sharp"  # the folder of the last part
_BEGUN_WITH = 512  # frames whose patches and latents a tokenizer begins with


def run(settings: TokenizerSettings) -> FitResult:
    """Train a tokenizer on a dataset's episodes, the held-out ones left out, into the run folder `settings.out`.

    Once its codes are settled, the decoder learns to draw sharp, in a run folder of its own within.
    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or the run folder.
    """
    result = train(settings, prepare)
    settings = settings.completed()
    steps = DECODER_PRESETS[settings.preset].fit["steps"] if settings.sharpen_steps is None else settings.sharpen_steps
    if steps:
        _sharpen(settings, steps)
    return result


def _sharpen(settings: TokenizerSettings, steps: int) -> None:
    """Let the decoder learn to draw sharp, or go on with that, and take it over."""
    out = contained(settings.out, _SHARP)
    begun = (out / STATE).is_file() and read_config(out).recipe.get("steps") == steps and _same_codes(settings.out, out)
    if not begun:
        shutil.rmtree(out, ignore_errors=True)
    decoder.run(
        DecoderSettings(
            run=settings.out,
            data=settings.data,
            out=out,
            preset=settings.preset,
            steps=steps,
            precision=settings.precision,
            seed=settings.seed,
            camera=settings.camera,
            cache=settings.cache,
            resume=begun,
            data_changed=settings.data_changed,
        )
    )
    if os.environ.get("RANK", "0") == "0":
        Tokenizer.load(out).save(settings.out, recipe=settings.to_json(), data=read_origin(settings.out))


def _same_codes(one: Path, other: Path) -> bool:
    return torch.equal(Tokenizer.load(one).codebook, Tokenizer.load(other).codebook)


def prepare(settings: TokenizerSettings) -> Recipe:
    """The tokenizer of the settings, and the frames that it learns from."""
    model = _make_model(settings)
    cache = settings.cache or settings.out / "cache"
    size, depth, dataset = model.config.size, model.config.depth, Dataset.open(settings.data)
    before = check_resumed(settings.out, dataset, data_changed=settings.data_changed) if settings.resume else ()
    episodes = FrameSource(dataset, size, depth, settings.camera, cache, before).episodes()
    clips, measured = episodes.clips(length=1), some_frames(episodes.held_out_clips(length=1), model.config)
    if not settings.resume and settings.warm_start is None:
        model.begin(some_frames(clips, model.config, _BEGUN_WITH))

    def make_batch(indices: Sequence[int], seeds: Tensor) -> Any:
        batch = frames_of(clips, model.config, indices, seeds)
        return augmented(batch) if settings.augment else batch

    return Recipe(
        title="tokenizer",
        model=model,
        num_samples=len(clips),
        make_batch=make_batch,
        save=partial(model.save, data=episodes.origin),
        measure=lambda step, picture: _draw(model, measured, step, picture),
    )


def _make_model(settings: TokenizerSettings) -> Tokenizer:
    torch.manual_seed(settings.seed)
    if settings.resume:
        return Tokenizer.load(settings.out, trainable=True)
    size = shared(settings, TokenizerConfig) | {"channels": 4 if settings.depth else 3}
    if settings.warm_start is None:
        return Tokenizer(TokenizerConfig(**size, **settings.presets[settings.preset].model), trainable=True)
    source = Tokenizer.load(settings.warm_start)
    tokenizer = Tokenizer(replace(source.config, **size), trainable=True)
    copy_weights(tokenizer, source)
    tokenizer.start_codebook(source.codebook)
    return tokenizer


def _draw(tokenizer: Tokenizer, frames: Tensor, step: int, path: Path) -> dict[str, float]:
    """Held-out frames, as `some_frames` gives them, above their reconstructions; measures all, draws a few."""
    drawn = drawn_again(tokenizer, frames)
    value = float(psnr(to_uint8(drawn), to_uint8(frames[:, -1:])).mean())
    save_picture(path, f"step {step:,}, held-out frames: PSNR {value:.1f} dB", frames, "reconstructed", drawn)
    return {"held_out/psnr": value}
