"""One picture that shows what a dataset looks like: frames and actions of some episodes, spread over the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from colorsys import hsv_to_rgb
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from oneiros.data.depth import MAX_CODE
from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset, Episode
from oneiros.data.video import DamagedVideoError
from oneiros.records import Camera

_BACKGROUND, _INK, _FAINT = (24, 26, 31), (236, 236, 236), (150, 154, 163)
_PANEL, _HELD = (38, 41, 48), (240, 150, 60)
_TILE_HEIGHT, _GAP, _MARGIN = 120, 6, 24
# dark blue (far) to light yellow (near), after the viridis colour map
_DEPTH_COLOURS = np.array([[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]], float)


def contact_sheet(dataset: Dataset, *, num_episodes: int = 6, num_frames: int = 8) -> Image.Image:
    """Frames evenly spread over time for each of some evenly spread episodes, a row per camera, above their actions.

    Episodes whose video cannot be decoded are passed over.
    """
    places = spread(num_episodes, len(dataset.episodes))
    rows = [row for place in places for row in _rows(dataset, dataset.episodes[place], num_frames)]
    if not rows:
        raise ValueError(f"{dataset.path}: there is no frame to show")
    width = max(strip.width for _, strip in rows) + 2 * _MARGIN
    height = 92 + sum(strip.height + (34 if text else _GAP) for text, strip in rows)
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, 18), dataset.path.resolve().name, fill=_INK, font=_font(26))
    frames = sum(episode.length for episode in dataset.episodes)
    summary = f"{len(dataset.episodes)} episodes, {frames:,} frames at {dataset.fps} fps"
    draw.text((_MARGIN, 54), summary, fill=_FAINT, font=_font(16))
    y = 84
    for text, strip in rows:
        if text:
            draw.text((_MARGIN, y + 8), _fit(text, width - 2 * _MARGIN), fill=_INK, font=_font(15))
        y += 30 if text else _GAP
        sheet.paste(strip, (_MARGIN, y))
        y += strip.height
    return sheet


def _rows(dataset: Dataset, episode: Episode, num_frames: int) -> Iterator[tuple[str, Image.Image]]:
    """(heading, strip) for every camera of one episode and for its actions; the heading is empty below the first."""
    times = spread(num_frames, episode.length)
    heading = (
        f"episode {episode.index}   {episode.length} frames, {episode.length / dataset.fps:.1f} s   {episode.task}"
    )
    for camera in dataset.cameras:
        try:
            tiles = [_tile(dataset, episode, camera, row) for row in times]
        except DamagedVideoError:
            continue
        step = tiles[0].width + _GAP
        strip = Image.new("RGB", (len(tiles) * step - _GAP, _TILE_HEIGHT), _BACKGROUND)
        for place, tile in enumerate(tiles):
            strip.paste(tile, (place * step, 0))
        yield heading, strip
        heading = ""
    if dataset.action_spec is not None and not heading:
        yield "", _timeline(dataset, episode, strip.width)


def _timeline(dataset: Dataset, episode: Episode, width: int) -> Image.Image:
    """What was done, from left to right over the whole episode."""
    spec, actions = dataset.action_spec, dataset.actions(episode.index)
    assert spec is not None
    assert actions is not None
    if spec.kind == "continuous":
        return _curves((actions - np.array(spec.mean)) / (np.array(spec.std) + 1e-6), width)
    return _lanes(actions if spec.kind == "keys" else actions[:, None] == np.arange(spec.size), spec.names, width)


def _lanes(held: np.ndarray, names: Sequence[str], width: int) -> Image.Image:
    """A lane per action, bright while it is held."""
    colours = np.where(held.T[..., None], _HELD, _PANEL).astype(np.uint8)
    image = Image.fromarray(colours).resize((width, 15 * len(names)), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for place, name in enumerate(names):
        draw.text((5, 15 * place + 1), name, fill=_INK, font=_font(10), stroke_width=1, stroke_fill="black")
        draw.line((0, 15 * place, width, 15 * place), fill=_BACKGROUND)
    return image


def _curves(values: np.ndarray, width: int, height: int = 72) -> Image.Image:
    """A curve per dimension, in standard deviations from its mean: 3 to the panel's edge."""
    scale = 2  # drawn larger and reduced, for smooth lines
    image = Image.new("RGB", (width * scale, height * scale), _PANEL)
    draw = ImageDraw.Draw(image)
    x = np.linspace(0, width * scale - 1, len(values))
    y = (0.5 - np.clip(values, -3, 3) / 6.2) * height * scale
    for dimension in range(values.shape[1]):
        red, green, blue = hsv_to_rgb(dimension / values.shape[1], 0.5, 0.95)
        colour = (int(red * 255), int(green * 255), int(blue * 255))
        draw.line([*zip(x.tolist(), y[:, dimension].tolist(), strict=True)], fill=colour, width=scale)
    return image.resize((width, height), Image.Resampling.BOX)


def _tile(dataset: Dataset, episode: Episode, camera: Camera, row: int) -> Image.Image:
    frame = next(dataset.stream(episode.index, camera, start=row, stop=row + 1))
    image = Image.fromarray(frame if camera.kind == "rgb" else _colour(frame, camera))
    width = min(max(1, round(camera.width * _TILE_HEIGHT / camera.height)), 8 * _TILE_HEIGHT)
    small = camera.height < _TILE_HEIGHT
    tile = image.resize((width, _TILE_HEIGHT), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(tile)
    label = f"{row / dataset.fps:.1f} s"
    draw.text(
        (5, _TILE_HEIGHT - 5), label, anchor="ls", fill="white", font=_font(12), stroke_width=2, stroke_fill="black"
    )
    return tile


def _colour(codes: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth by colour from near to far; a colour of its own for each label."""
    if camera.kind == "labels":
        return (codes[..., None] * np.array([37, 101, 197]) % 200 + 40 * (codes[..., None] > 0)).astype(np.uint8)
    low, high = np.percentile(codes, (1, 99))
    steps = np.clip((codes - low) / max(high - low, MAX_CODE / 100), 0, 1) * (len(_DEPTH_COLOURS) - 1)
    channels = [np.interp(steps, range(len(_DEPTH_COLOURS)), channel) for channel in _DEPTH_COLOURS.T]
    return np.stack(channels, axis=-1).astype(np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, width: int) -> str:
    """Shorten a line so that it fits."""
    while text and _font(15).getlength(text) > width:
        text = text[:-2].rstrip(" .") + "…"
    return text
