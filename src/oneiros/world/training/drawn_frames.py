"""The frames that a tokenizer and its decoder learn from, and held-out ones above what is drawn of their codes.

Where the decoder is shown a reference frame, frames come in pairs: it, and a later one of the same episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from oneiros.data.episodes.clips import Clips, spread
from oneiros.data.episodes.source import Episodes
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.nn.per_sample import PerSample
from oneiros.records import Clip
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

MEASURED = 64  # frames
_SHOWN = 8  # of them in a picture
_FARTHEST = 64  # rows from a reference frame to the frame drawn with it


def clip_length(config: TokenizerConfig, episodes: Episodes) -> int:
    """Rows of the clips that `frames_of` takes: one frame, or all among which it chooses one beside the reference, as
    many as the longest episode has."""
    longest = max(len(episode.content) for episode in episodes.train)
    return max(2, min(1 + _FARTHEST, longest)) if config.reference_frame else 1


def frames_of(clips: Clips, indices: Sequence[int], seeds: Tensor) -> Clip:
    """A batch of single frames, from clips of one frame; from longer ones, pairs of their first frame and a later one,
    chosen by the clip's seed."""
    batch = clips.batch(indices, seeds)
    assert isinstance(batch, Clip)
    if batch.frames.shape[1] == 1:
        return batch
    later = (batch.valid.sum(1) - 1).clamp_min(1)
    chosen = 1 + (PerSample(seeds + 1).uniform(1)[:, 0] * later).long()  # not by the number that may hide the reference
    pair, row = torch.stack([torch.zeros_like(chosen), chosen], 1), torch.arange(len(chosen))[:, None]
    return replace(batch, frames=batch.frames[row, pair], valid=batch.valid[row, pair], actions=None)


def some_frames(clips: Clips, count: int = MEASURED) -> Tensor:
    """`frames_of` at most `count` clips, spread evenly: (B, 1 or 2, C, H, W)."""
    indices = spread(count, len(clips))
    return frames_of(clips, indices, torch.arange(len(indices))).frames


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
