"""From a dataset to a trained tokenizer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oneiros.data.augment import augmented
from oneiros.data.episodes.clips import Clips, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import Episodes, FrameSource, check_resumed
from oneiros.data.frames import to_uint8
from oneiros.disk import contained
from oneiros.records import Clip
from oneiros.run_folder import read_config, read_origin
from oneiros.train.fit import FitResult
from oneiros.train.recipe import Recipe, train
from oneiros.train.settings import check_as_begun, shared
from oneiros.train.state import STATE
from oneiros.train.warm_start import copy_weights
from oneiros.world.metrics import psnr
from oneiros.world.nn.own_codec import blank_latents, make_codec
from oneiros.world.settings import DECODER_PRESETS, DecoderSettings, TokenizerSettings
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from oneiros.world.training import decoder
from oneiros.world.training.drawn_frames import MEASURED, drawn_again, frames_of, save_picture, some_frames

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
    if steps and settings.codec is None:  # of another's decoder nothing is known
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
    if settings.codec and settings.sharpen_steps:
        raise ValueError("--sharpen-steps is for the default codec; it knows nothing of the decoder of --codec")
    model = _make_model(settings)
    cache = settings.cache or settings.out / "cache"
    size, depth, dataset = model.config.size, model.config.depth, Dataset.open(settings.data)
    before = check_resumed(settings.out, dataset, data_changed=settings.data_changed) if settings.resume else ()
    episodes = FrameSource(dataset, size, depth, settings.camera, cache, before).episodes()
    length = _seen_together(model, episodes)
    clips, held_out = episodes.clips(length=length), episodes.held_out_clips(length=length)
    if not settings.resume and settings.warm_start is None:
        model.begin(_some(model, clips, _BEGUN_WITH))
    measured = _some(model, held_out, MEASURED)

    def make_batch(indices: Sequence[int], seeds: Tensor) -> Any:
        batch = clips.batch(indices, seeds) if model.lookback else frames_of(clips, model.config, indices, seeds)
        return augmented(batch) if settings.augment else batch

    return Recipe(
        title="tokenizer",
        model=model,
        num_samples=len(clips),
        make_batch=make_batch,
        save=partial(model.save, data=episodes.origin),
        measure=lambda step, picture: _draw(model, measured, step, picture),
    )


def _seen_together(model: Tokenizer, episodes: Episodes) -> int:
    """Frames of the clips that a tokenizer learns from: one, or, of one that looks back, twice as many as that, fewer
    where the longest episode has fewer."""
    longest = max(len(episode.content) for episode in episodes.train)
    latents = min(2 * model.lookback, (longest - 1) // model.temporal_stride)
    return 1 + latents * model.temporal_stride


def _some(model: Tokenizer, clips: Clips, count: int) -> Tensor:
    """About `count` frames (B, T, C, H, W), or pairs, in clips as they are learned from, spread evenly."""
    if not model.lookback:
        return some_frames(clips, model.config, count)
    batch = clips.batch(spread(1 + count // (1 + 2 * model.lookback), len(clips)))
    assert isinstance(batch, Clip)
    return batch.frames


def _make_model(settings: TokenizerSettings) -> Tokenizer:
    torch.manual_seed(settings.seed)
    codec = make_codec(settings.codec)
    if settings.resume:
        begun = Tokenizer.load(settings.out, codec=codec, trainable=True)
        check_as_begun(settings, begun.config)
        return begun
    size = shared(settings, TokenizerConfig) | {"channels": 4 if settings.depth else 3}
    fields = settings.model_fields(TokenizerConfig)
    if settings.warm_start is None:
        config = TokenizerConfig(**size, **fields) if codec is None else _around(codec, settings, size)
        return Tokenizer(config, codec, trainable=True)
    source = Tokenizer.load(settings.warm_start, codec=make_codec(settings.codec))
    tokenizer = Tokenizer(replace(source.config, **size | dict(settings.model)), codec, trainable=True)
    copy_weights(tokenizer, source)
    tokenizer.start_codebook(source.codebook)
    return tokenizer


def _around(codec: nn.Module, settings: TokenizerSettings, size: Mapping[str, Any]) -> TokenizerConfig:
    """The config around a codec of the user's, as wide as its latents, and nothing of the default codec's own."""
    if own := sorted({"codec_width", "codec_depth", "linear_path"} & settings.model.keys()):
        raise ValueError(f"--model.{own[0].replace('_', '-')} is of the default codec; leave it out with --codec")
    latents = blank_latents(codec, size["channels"], settings.height, settings.width)
    preset = settings.presets[settings.preset].model
    fields = {name: preset[name] for name in ("codebook_size", "codebook_levels") if name in preset}
    fields |= {"code_dim": latents.shape[2], "external_codec": True, "codec_name": settings.codec or ""}
    return TokenizerConfig(**size, **fields | dict(settings.model))


def _draw(tokenizer: Tokenizer, frames: Tensor, step: int, path: Path) -> dict[str, float]:
    """Held-out frames, as `some_frames` gives them, above their reconstructions; measures all, draws a few."""
    drawn = drawn_again(tokenizer, frames)[:, -1:]
    value = float(psnr(to_uint8(drawn), to_uint8(frames[:, -1:])).mean())
    save_picture(path, f"step {step:,}, held-out frames: PSNR {value:.1f} dB", frames, "reconstructed", drawn)
    return {"held_out/psnr": value}
