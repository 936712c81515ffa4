"""Strips of real frames above the model's, for whoever watches a training run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from oneiros.data.frames import to_uint8

_SMALLEST = 96  # pixels: small frames are enlarged to at least this height
_MARGIN, _TITLE, _INK, _PAPER = 6, 24, (30, 30, 30), (255, 255, 255)


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
    strips = [[(label, _strip(frames, num_given)) for label, frames in group] for group in groups]
    width = left + max(strip.width for group in strips for _, strip in group) + _MARGIN
    height = _TITLE + sum(sum(strip.height + 2 for _, strip in group) + _MARGIN for group in strips)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 4), title, _INK, font)
    top = _TITLE
    for group in strips:
        for label, strip in group:
            draw.text((_MARGIN, top + strip.height // 2 - 8), label, _INK, font)
            sheet.paste(strip, (left, top))
            top += strip.height + 2
        top += _MARGIN
    _write(sheet, path)


def _strip(frames: np.ndarray, num_given: int) -> Image.Image:
    """Frames side by side, enlarged without smoothing, with a gap after the given ones."""
    factor = max(1, -(-_SMALLEST // frames.shape[1]))
    large = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    gap = np.full((large.shape[1], 4 * _MARGIN, 3), _PAPER[0], np.uint8)
    parts = [*large[:num_given], gap, *large[num_given:]] if num_given else list(large)
    return Image.fromarray(np.concatenate(parts, axis=1))


def _write(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        sheet.save(aside, "PNG")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def spread(count: int, total: int) -> list[int]:
    """At most `count` numbers spread evenly over range(total)."""
    return torch.linspace(0, total - 1, min(count, total)).round().int().tolist()
