"""Which tokenizer keeps most of a frame after equal processor time: one codebook or two, a linear path or none.

    python benchmarks/tokenizers.py demo/data --seconds 120

Trains each variant on the dataset's training episodes by one thread for so many seconds of processor time, then prints,
for frames of held-out episodes, the PSNR of reconstructions and their sharpness over that of real frames. Nothing is
saved but decoded frames, in --cache.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from oneiros import machine
from oneiros.data.episodes.clips import Clips
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource
from oneiros.data.frames import to_uint8
from oneiros.machine import bf16_is_faster
from oneiros.records import Clip
from oneiros.world.metrics import psnr, sharpness
from oneiros.world.settings import TOKENIZER_PRESETS
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from oneiros.world.training.drawn_frames import drawn_again, some_frames

_PRESET = TOKENIZER_PRESETS["small"]
_ONE_LEVEL = {"codebook_size": 512, "codebook_levels": 1, "linear_path": False, "rotation_trick": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "one codebook of 512, convolutions alone": _ONE_LEVEL,
    "the same, gradients straight through": {**_ONE_LEVEL, "rotation_trick": False},
    "the same with a linear path": {**_ONE_LEVEL, "rotation_trick": False, "linear_path": True},
    "two codebooks of 512, convolutions alone": {**_ONE_LEVEL, "rotation_trick": False, "codebook_levels": 2},
    "two of 512 with a linear path": {"codebook_size": 512},
    "two of 1,024 with a linear path, by the rotation trick": {"rotation_trick": True},
    "two of 1,024 with a linear path (the small preset)": {},
}


def batches(clips: Clips, size: int) -> Iterator[Clip]:
    """Random frames without end."""
    generator = torch.Generator().manual_seed(0)
    while True:
        batch = clips.batch(torch.randint(len(clips), (size,), generator=generator).tolist())
        assert isinstance(batch, Clip)
        yield batch


def trained(changes: dict[str, Any], clips: Clips, seconds: float) -> tuple[Tokenizer, int]:
    """The small preset with `changes` after so many seconds of processor time, and the steps that they held."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(**{**_PRESET.model, **changes}), trainable=True).train()
    tokenizer.begin(some_frames(clips, tokenizer.config, 512))
    rate, steps, began = _PRESET.fit["learning_rate"], 0, time.process_time()
    optimizer = torch.optim.AdamW(tokenizer.codec.parameters(), lr=rate, betas=(0.9, 0.99))
    for batch in batches(clips, _PRESET.fit["batch_size"]):
        done = (time.process_time() - began) / seconds
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (steps + 1) / 50) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_faster("cpu")):
            loss = tokenizer(batch).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tokenizer.codec.parameters(), 1.0)
        optimizer.step()
        tokenizer.after_step()
        steps += 1
    return tokenizer.eval(), steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args()
    machine.prepare()
    torch.set_num_threads(1)
    episodes = FrameSource(Dataset.open(options.data), (64, 64), False, None, options.cache).episodes()
    clips, held_out = episodes.clips(length=1), some_frames(episodes.held_out_clips(length=1), TokenizerConfig(), 256)
    real = to_uint8(held_out)
    print(f"{machine.processor()}, one thread, bf16: {bf16_is_faster('cpu')}; {options.seconds:g} s each")
    print(f"{'':55} {'bits':>6} {'steps':>6} {'PSNR':>8} {'sharpness':>10}")
    for name, changes in VARIANTS.items():
        tokenizer, steps = trained(changes, clips, options.seconds)
        drawn = torch.cat([to_uint8(drawn_again(tokenizer, part)) for part in held_out.split(64)])
        error, sharp = float(psnr(drawn, real).mean()), float(sharpness(drawn).mean() / sharpness(real).mean())
        bits = tokenizer.num_codes * math.log2(tokenizer.config.num_entries)
        print(f"{name:55} {bits:6.0f} {steps:6} {error:5.2f} dB {sharp:10.2f}", flush=True)


if __name__ == "__main__":
    main()
