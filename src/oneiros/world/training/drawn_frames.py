"""Held-out frames above what is drawn of their codes, while a tokenizer or its decoder trains."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from oneiros.data.episodes.clips import Clips, spread
from oneiros.data.pictures import frame_rows, save_strips
from oneiros.records import Clip
from oneiros.world.tokenizer import Tokenizer

MEASURED = 64  # frames
_SHOWN = 8  # of them in a picture


def some_frames(clips: Clips, count: int = MEASURED) -> Tensor:
    """At most `count` frames (B, 1, C, H, W) of clips of one frame, spread evenly."""
    batch = clips.batch(spread(count, len(clips)))
    assert isinstance(batch, Clip)
    return batch.frames


def drawn_again(tokenizer: Tokenizer, frames: Tensor) -> Tensor:
    """Frames (B, T, C, H, W) as the tokenizer draws them from their codes, on the CPU."""
    return tokenizer.decode(tokenizer.encode(frames.to(tokenizer.codebook.device))).cpu()


def save_picture(path: Path, title: str, frames: Tensor, name: str, drawn: Tensor) -> None:
    """A few of the frames (B, 1, C, H, W) above `drawn`, which the picture calls `name`."""
    shown = spread(_SHOWN, len(frames))
    save_strips(path, title, [[*frame_rows("real", frames[shown, 0]), *frame_rows(name, drawn[shown, 0])]])
