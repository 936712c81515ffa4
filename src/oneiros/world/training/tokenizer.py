"""From a dataset to a trained tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneiros.data.augment import augmented
from oneiros.data.episodes.clips import Clips, spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource
from oneiros.data.frames import to_uint8
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.records import Clip
from oneiros.train.fit import FitResult, fit
from oneiros.train.order import Order
from oneiros.train.state import opening_state
from oneiros.train.warm_start import copy_weights
from oneiros.world.metrics import psnr
from oneiros.world.settings import TOKENIZER_PRESETS as PRESETS
from oneiros.world.settings import TokenizerSettings
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

__all__ = ["PRESETS", "TokenizerSettings", "run"]

_SHOWN, _MEASURED = 8, 64  # held-out frames in a picture, and those whose PSNR is measured


def run(settings: TokenizerSettings) -> FitResult:
    """Train a tokenizer on a dataset's episodes, the held-out ones left out, into the run folder `settings.out`.

    Raises ValueError or OSError, in one line, for what is wrong with the dataset, the settings or the run folder.
    """
    settings = settings.completed()
    config = settings.fit_config(PRESETS[settings.preset])
    opening_state(settings.out, config, resume=settings.resume)  # before the long part

    model = _make_model(settings)
    cache = settings.cache or settings.out / "cache"
    size, depth = model.config.size, model.config.depth
    episodes = FrameSource(Dataset.open(settings.data), size, depth, settings.camera, cache).episodes()
    clips, held_out = episodes.clips(length=1), episodes.held_out_clips(length=1)
    order = Order(len(clips), batch_size=config.batch_size, seed=config.seed)
    measured = _frames(held_out, spread(_MEASURED, len(held_out)))

    def make_batch(step: int, samples: Sequence[int]) -> Any:
        batch = clips.batch(order.indices(step, samples), order.seeds(step, samples))
        return augmented(batch) if settings.augment else batch

    def save_model(tokenizer: nn.Module, folder: Path) -> None:
        assert isinstance(tokenizer, Tokenizer)
        tokenizer.save(folder, recipe=settings.to_json(), data=episodes.origin)

    def pictures(tokenizer: nn.Module, step: int) -> dict[str, float]:
        assert isinstance(tokenizer, Tokenizer)
        return _draw(tokenizer, measured, step, settings.out)

    return fit(
        model,
        make_batch,
        out=settings.out,
        config=config,
        save_model=save_model,
        pictures=pictures,
        resume=settings.resume,
        title="tokenizer",
    )


def _make_model(settings: TokenizerSettings) -> Tokenizer:
    torch.manual_seed(settings.seed)
    if settings.resume:
        return Tokenizer.load(settings.out, trainable=True)
    size = {"height": settings.height, "width": settings.width, "channels": 4 if settings.depth else 3}
    if settings.warm_start is None:
        return Tokenizer(TokenizerConfig(**size, **PRESETS[settings.preset].model), trainable=True)
    source = Tokenizer.load(settings.warm_start)
    tokenizer = Tokenizer(replace(source.config, **size), trainable=True)
    copy_weights(tokenizer, source)
    tokenizer.start_codebook(source.codebook)
    return tokenizer


def _frames(clips: Clips, indices: Sequence[int]) -> torch.Tensor:
    batch = clips.batch(indices)
    assert isinstance(batch, Clip)
    return batch.frames


def _draw(tokenizer: Tokenizer, frames: torch.Tensor, step: int, out: Path) -> dict[str, float]:
    """Held-out frames (B, 1, C, H, W) above their reconstructions; measures the PSNR of all, draws a few."""
    restored = tokenizer.decode(tokenizer.encode(frames.to(tokenizer.codebook.device))).cpu()
    value = float(psnr(to_uint8(restored), to_uint8(frames)).mean())
    shown = spread(_SHOWN, len(frames))
    rows = [*frame_rows("real", frames[shown, 0]), *frame_rows("reconstructed", restored[shown, 0])]
    save_strips(
        out / "pictures" / f"step_{step:06d}.png", f"step {step:,}, held-out frames: PSNR {value:.1f} dB", [rows]
    )
    return {"held_out/psnr": value}
