"""Frames as pictures people look at: strips, side-by-side animations, videos.

Frames are uint8 (T, H, W, 3).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

GIVEN, DREAMED = (150, 150, 150), (236, 118, 54)  # bars over context frames and over dreamed ones
_GAP = 128  # neutral on a light page and on a dark one
_SMALLEST = 256  # pixels: small frames are enlarged to at least this height


def strip(frames: np.ndarray) -> Image.Image:
    """Frames in a row, without gaps."""
    return Image.fromarray(np.concatenate(list(frames), axis=1))


def beside(rows: Sequence[np.ndarray], *, num_given: int, gap: int = 2, bar: int = 4) -> np.ndarray:
    """Several equally long frame sequences next to each other, under a bar that is grey while frames are given and
    orange while they are dreamed: uint8 (T, H + bar, sum of widths and gaps, 3)."""
    length, height = rows[0].shape[:2]
    spacer = np.full((length, height, gap, 3), _GAP, np.uint8)
    parts = [part for row in rows for part in (spacer, row)][1:]
    joined = np.concatenate(parts, axis=2)
    colours = np.where(np.arange(length)[:, None] < num_given, GIVEN, DREAMED).astype(np.uint8)
    bars = np.broadcast_to(colours[:, None, None], (length, bar, joined.shape[2], 3))
    return np.concatenate([bars, joined], axis=1)


def enlarge(frames: np.ndarray, smallest: int = _SMALLEST) -> np.ndarray:
    """Whole-number enlargement without smoothing, to a height of at least `smallest` and to even sizes."""
    factor = max(2, -(-smallest // frames.shape[1]))
    factor += factor % 2
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def animation(frames: np.ndarray, *, fps: float) -> bytes:
    """An endless animated WebP without loss."""
    buffer = io.BytesIO()
    _save_animation(frames, buffer, "WEBP", fps, lossless=True)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """For an `src` in a page that fetches nothing. kind: `image/png`, ..."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check_ending(path: Path) -> None:
    """ValueError for a file that `save_frames` cannot write."""
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"{path} ends in {path.suffix!r}; choose {', '.join(_WRITERS)}")


def save_frames(frames: np.ndarray, path: Path, *, fps: float) -> None:
    """Write .mp4 (H.264), .gif or .webp (animations), or .png (a strip), whole or not at all."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        _WRITERS[path.suffix.lower()](frames, partial, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _save_video(frames: np.ndarray, path: Path, fps: float) -> None:
    from oneiros.data.video import VideoEncoder

    encoder = VideoEncoder(path, height=frames.shape[1], width=frames.shape[2], fps=max(1, round(fps)))
    for frame in frames:
        encoder.add(frame)
    encoder.close()


def _save_gif(frames: np.ndarray, path: Path, fps: float) -> None:
    _save_animation(frames, path, "GIF", fps)


def _save_webp(frames: np.ndarray, path: Path, fps: float) -> None:
    _save_animation(frames, path, "WEBP", fps, lossless=True)


def _save_strip(frames: np.ndarray, path: Path, fps: float) -> None:
    strip(frames).save(path, "PNG", optimize=True)


def _save_animation(frames: np.ndarray, target: io.BytesIO | Path, format: str, fps: float, **options: bool) -> None:
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(
        target, format, save_all=True, append_images=others, duration=max(20, round(1000 / fps)), loop=0, **options
    )


_WRITERS = {".mp4": _save_video, ".gif": _save_gif, ".webp": _save_webp, ".png": _save_strip}
