"""Frames <-> files people look at: strips, side-by-side animations, videos.

Frames are uint8 (T, H, W, 3) unless said otherwise.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from oneiros.data.frames import to_uint8
from oneiros.data.video import VideoEncoder
from oneiros.disk import replacing

GIVEN, DREAMED = (150, 150, 150), (236, 118, 54)  # bars over context frames and over dreamed ones
_GAP = 128  # neutral on a light page and on a dark one
_SMALLEST, _SMALLEST_IN_STRIPS = 256, 96  # pixels: small frames are enlarged to at least this height
_MARGIN, _TITLE, _INK, _PAPER = 6, 24, (30, 30, 30), (255, 255, 255)


def strip(frames: np.ndarray, *, num_given: int = 0) -> Image.Image:
    """Frames in a row, without gaps but for one after the first `num_given`, which the model was given."""
    gap = np.full((frames.shape[1], 4 * _MARGIN, 3), _PAPER[0], np.uint8)
    parts = [*frames[:num_given], gap, *frames[num_given:]] if num_given else list(frames)
    return Image.fromarray(np.concatenate(parts, axis=1))


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


def enlarge(frames: np.ndarray, smallest: int = _SMALLEST, *, even: bool = True) -> np.ndarray:
    """Whole-number enlargement of (..., H, W, 3) without smoothing, to a height of at least `smallest`.

    even: by an even number, for H.264, which halves its colours.
    """
    factor = max(1, -(-smallest // frames.shape[-3]))
    if even and factor % 2:
        factor += 1
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode(frames: Iterable[np.ndarray], ending: str, *, fps: float) -> bytes:
    """The bytes of the file that `save_frames` would write. ending: `.mp4`, ..."""
    with TemporaryDirectory(prefix="oneiros-clip-") as folder:
        path = Path(folder) / f"clip{ending}"
        save_frames(frames, path, fps=fps)
        return path.read_bytes()


def data_uri(content: bytes, kind: str) -> str:
    """The content as a data: URI, for an `src` in a page that fetches nothing. kind: `image/png`, ..."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check_ending(path: Path) -> None:
    """ValueError for a file that `save_frames` cannot write."""
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"{path} ends in {path.suffix!r}; choose {', '.join(_WRITERS)}")


def save_frames(frames: Iterable[np.ndarray], path: Path, *, fps: float) -> None:
    """Write uint8 (H, W, 3) frames as .mp4 (H.264), .gif or .webp (endless animations, WebP without loss), or .png (a
    strip), whole or not at all."""
    check_ending(path)
    with replacing(path) as temporary:
        _WRITERS[path.suffix.lower()](frames, temporary, fps)


def frame_rows(name: str, frames: Tensor) -> list[tuple[str, np.ndarray]]:
    """Float frames (T, C, H, W) as labelled rows of uint8 (T, H, W, 3): colour, and depth, if any, as grey."""
    rows = [(name, to_uint8(frames).cpu().numpy())]
    if frames.shape[1] == 4:
        rows.append((f"{name} depth", to_uint8(frames[:, 3:].expand(-1, 3, -1, -1)).cpu().numpy()))
    return rows


def save_strips(
    path: Path, title: str, groups: Sequence[Sequence[tuple[str, np.ndarray]]], *, num_given: int = 0
) -> None:
    """A PNG of labelled rows under a title, one row of frames uint8 (T, H, W, 3) each.

    groups: rows that belong together; groups stand apart. num_given: a gap follows that many frames, which the model
    was given. Appears whole or not at all.
    """
    font = ImageFont.load_default(size=14)
    labels = max(font.getlength(label) for group in groups for label, _ in group)
    left = int(labels) + 2 * _MARGIN
    strips = [[(label, _enlarged_strip(frames, num_given)) for label, frames in group] for group in groups]
    width = left + max(row.width for group in strips for _, row in group) + _MARGIN
    height = _TITLE + sum(sum(row.height + 2 for _, row in group) + _MARGIN for group in strips)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 4), title, _INK, font)
    top = _TITLE
    for group in strips:
        for label, row in group:
            draw.text((_MARGIN, top + row.height // 2 - 8), label, _INK, font)
            sheet.paste(row, (left, top))
            top += row.height + 2
        top += _MARGIN
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _enlarged_strip(frames: np.ndarray, num_given: int) -> Image.Image:
    return strip(enlarge(frames, _SMALLEST_IN_STRIPS, even=False), num_given=num_given)


def _save_video(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    encoder = None
    for frame in frames:
        if encoder is None:
            encoder = VideoEncoder(path, height=frame.shape[0], width=frame.shape[1], fps=max(1, round(fps)))
        encoder.add(frame)
    if encoder is None:
        raise ValueError("a video takes at least one frame")
    encoder.close()


def _save_gif(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    _save_animation(frames, path, "GIF", fps)


def _save_webp(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    _save_animation(frames, path, "WEBP", fps, lossless=True)


def _save_strip(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    strip(np.stack(list(frames))).save(path, "PNG", optimize=True)


def _save_animation(frames: Iterable[np.ndarray], path: Path, format: str, fps: float, **options: bool) -> None:
    images = map(Image.fromarray, frames)
    first, milliseconds = next(images), max(20, round(1000 / fps))
    first.save(path, format, save_all=True, append_images=images, duration=milliseconds, loop=0, **options)


_WRITERS = {".mp4": _save_video, ".gif": _save_gif, ".webp": _save_webp, ".png": _save_strip}
