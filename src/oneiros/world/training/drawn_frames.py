"""The frames that a tokenizer and its decoder learn from, and held-out ones above what is drawn of their codes.

Where the decoder is shown a reference frame, frames come in pairs: it, and a later one of the same episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from oneiros.data.episodes.clips import Clips, spread
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.nn.per_sample import PerSample
from oneiros.records import Clip
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

MEASURED = 64  # frames
_SHOWN = 8  # of them in a picture
_FARTHEST = 64  # rows from a reference frame to the frame drawn with it


def frames_of(clips: Clips, config: TokenizerConfig, indices: Sequence[int], seeds: Tensor) -> Clip:
    """A batch of clips of one frame: (B, 1, C, H, W). Where the decoder is shown a reference, of pairs: it, and the
    frame to draw, which follows in the same episode, chosen by the clip's seed."""
    if config.reference_frame:
        ahead = torch.tensor([min(clips.following(index), _FARTHEST) for index in indices])
        # Not by the number of the seed that decides whether the reference is hidden.
        steps = (1 + (PerSample(seeds + 1).uniform(1)[:, 0] * ahead).long()).minimum(ahead)
        indices = [
            number for index, step in zip(indices, steps.tolist(), strict=True) for number in (index, index + step)
        ]
    batch = clips.batch(indices)
    assert isinstance(batch, Clip)
    frames, valid = (tensor[:, 0].unflatten(0, (len(seeds), -1)) for tensor in (batch.frames, batch.valid))
    return Clip(frames, None, valid, seeds=seeds)


def some_frames(clips: Clips, config: TokenizerConfig, count: int = MEASURED) -> Tensor:
    """`frames_of` at most `count` clips, spread evenly: (B, 1 or 2, C, H, W)."""
    indices = spread(count, len(clips))
    return frames_of(clips, config, indices, torch.arange(len(indices))).frames


def drawn_again(tokenizer: Tokenizer, frames: Tensor) -> Tensor:
    """The last of frames (B, 1 or 2, C, H, W) as a tokenizer not in training draws them from their codes, on the CPU:
    (B, 1, C, H, W). The first of two is the reference."""
    frames = frames.to(tokenizer.codebook.device)
    clip, reference = tokenizer.with_reference(Clip(frames, None, frames.new_ones(frames.shape[:2]).bool()))
    return tokenizer.decode(tokenizer.encode(clip.frames), reference=reference).cpu()


def save_picture(path: Path, title: str, frames: Tensor, name: str, drawn: Tensor) -> None:
    """A few of the frames (B, 1 or 2, C, H, W) above `drawn`, which the picture calls `name`."""
    shown = spread(_SHOWN, len(frames))
    save_strips(path, title, [[*frame_rows("real", frames[shown, -1]), *frame_rows(name, drawn[shown, 0])]])
