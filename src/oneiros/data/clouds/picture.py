"""One picture of a cloud: from above by class and by height, and from a corner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from colorsys import hsv_to_rgb

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from oneiros.data.clouds.cloud import Cloud

_BACKGROUND, _INK, _FAINT = (24, 26, 31), (236, 236, 236), (150, 154, 163)
_PANEL, _MARGIN, _GAP, _TITLE = 620, 24, 16, 92
# right, up and towards the eye: from above, and from the south-west at 35 degrees
_ABOVE = np.eye(3)
_CORNER = np.array([[0.5**0.5, -(0.5**0.5), 0], [0.406, 0.406, 0.819], [-0.579, -0.579, 0.574]])
_MOST_POINTS = 500_000
_MOST_CLASSES = 256  # in the legend: as many as LAS can have
_BLOCK = 8  # pixels: how full blocks of so many are tells how large to draw a point
# low (dark blue) to high (light yellow), after the viridis colour map
_HEIGHT_COLOURS = np.array([[72, 40, 140], [59, 92, 160], [33, 145, 140], [94, 201, 98], [253, 231, 37]], float)
# of the usual classes of airborne lidar; others get a hue by their number
_CLASS_COLOURS = {
    "never classified": (120, 124, 132),
    "unclassified": (165, 168, 175),
    "ground": (190, 152, 105),
    "low vegetation": (176, 212, 110),
    "medium vegetation": (103, 178, 82),
    "high vegetation": (35, 126, 62),
    "building": (226, 88, 62),
    "low noise": (240, 60, 200),
    "water": (66, 133, 244),
    "road surface": (96, 96, 110),
    "bridge deck": (248, 200, 70),
}


def cloud_picture(cloud: Cloud, *, title: str, subtitle: str, classes: Mapping[int, int]) -> Image.Image:
    """Three views of a cloud of at least one point, with a bar for the scale and a legend.

    classes: how many points each class has, for the legend; empty where the cloud has none. The view from a corner
    shows the cloud's own colours where it has any.
    """
    legend = _legend(classes, cloud.class_names, 3 * _PANEL + 2 * _GAP)
    size = (3 * _PANEL + 2 * _GAP + 2 * _MARGIN, _TITLE + 30 + _PANEL + 20 + legend.height + _MARGIN)
    picture = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, 18), title, fill=_INK, font=_font(26))
    draw.text((_MARGIN, 56), subtitle, fill=_FAINT, font=_font(16))
    for number, (heading, view) in enumerate(_panels(cloud)):
        x = _MARGIN + number * (_PANEL + _GAP)
        draw.text((x, _TITLE), heading, fill=_INK, font=_font(16))
        picture.paste(view, (x, _TITLE + 30))
    picture.paste(legend, (_MARGIN, _TITLE + 30 + _PANEL + 20))
    return picture


def _panels(cloud: Cloud) -> Iterator[tuple[str, Image.Image]]:
    """Headings and views."""
    some = slice(None, None, -(-len(cloud) // _MOST_POINTS))
    xyz = cloud.xyz[some] - cloud.xyz.mean(axis=0)
    heights, (low, high) = _height_colours(cloud.xyz[some, 2])
    labels, own = cloud.classification, cloud.colours()
    classified = heights if labels is None else _class_colours(labels[some], cloud.class_names)
    yield "from above" + ("" if labels is None else ", by class"), _view(xyz, classified, _ABOVE)
    yield f"from above, by height: {low:.1f} (dark) to {high:.1f} (light)", _view(xyz, heights, _ABOVE)
    if own is None or not own.any():
        yield "from a corner", _view(xyz, classified, _CORNER)
    else:
        yield "from a corner, in its own colours", _view(xyz, (own[some] * 255).astype(np.uint8), _CORNER)


def _view(xyz: np.ndarray, colours: np.ndarray, axes: np.ndarray) -> Image.Image:
    """A parallel projection: axes are the directions of right, up and towards the eye, rows of (3, 3)."""
    right, up, near = (xyz @ axes.T).T
    centre = [(values.min() + values.max()) / 2 for values in (right, up)]
    extent = max(np.ptp(right), np.ptp(up)) or 1.0
    scale = 0.94 * _PANEL / extent  # pixels in a metre
    columns = _PANEL / 2 + (right - centre[0]) * scale
    rows = _PANEL / 2 - (up - centre[1]) * scale
    depth, image = _splat(columns.astype(int), rows.astype(int), near * scale, colours)
    lit = Image.fromarray((image * _shade(depth)[..., None]).astype(np.uint8))
    _draw_scale(ImageDraw.Draw(lit), scale, extent)
    return lit


def _splat(
    columns: np.ndarray, rows: np.ndarray, near: np.ndarray, colours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points as squares that close the gaps between them, the nearest on top: how near (-inf: nothing), colours."""
    num_pixels = len(np.unique(rows * _PANEL + columns))
    num_blocks = len(np.unique(rows // _BLOCK * _PANEL + columns // _BLOCK))
    width = int(np.clip(round(1.4 * _BLOCK * np.sqrt(num_blocks / num_pixels)), 1, _BLOCK + 1))
    offsets = np.arange(width) - width // 2
    over = np.clip(rows + offsets[:, None], 0, _PANEL - 1)[:, None]
    across = np.clip(columns + offsets[:, None], 0, _PANEL - 1)[None]
    order = np.argsort(near, kind="stable")
    places = (over * _PANEL + across)[..., order].transpose(2, 0, 1).reshape(-1)
    depth = np.full(_PANEL**2, -np.inf)
    image = np.full((_PANEL**2, 3), _BACKGROUND, np.uint8)
    depth[places] = np.repeat(near[order], width**2)  # of those that share a place, the last stays
    image[places] = np.repeat(colours[order], width**2, axis=0)
    return depth.reshape(_PANEL, _PANEL), image.reshape(_PANEL, _PANEL, 3)


def _shade(depth: np.ndarray) -> np.ndarray:
    """Darker where neighbouring pixels are nearer to the eye: eye-dome lighting (C. Boucheny, 2009), two rings."""
    floor = np.where(np.isfinite(depth), depth, depth[np.isfinite(depth)].min())
    higher = np.zeros_like(floor)
    for ring in (1, 3):
        padded = np.pad(floor, ring, mode="edge")
        for i in (0, ring, 2 * ring):
            for j in (0, ring, 2 * ring):
                other = padded[i : i + _PANEL, j : j + _PANEL]
                higher += np.log2(1 + np.maximum(0, other - floor)) / ring
    return np.where(np.isfinite(depth), np.exp(-0.03 * higher), 1.0)


def _height_colours(z: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """uint8 (N, 3), and the heights of both ends: a hundredth of the points lies beyond each."""
    low, high = np.percentile(z, (1, 99))
    places = np.clip((z - low) / max(high - low, 1e-9), 0, 1)
    stops = np.linspace(0, 1, len(_HEIGHT_COLOURS))
    colours = [np.interp(places, stops, channel) for channel in _HEIGHT_COLOURS.T]
    return np.stack(colours, axis=1).astype(np.uint8), (float(low), float(high))


def _class_colour(number: int, names: Mapping[int, str]) -> tuple[int, int, int]:
    """Red, green, blue; the same class has the same colour in every picture."""
    if names.get(number) in _CLASS_COLOURS:
        return _CLASS_COLOURS[names[number]]
    red, green, blue = hsv_to_rgb((0.58 + number * 0.618) % 1, 0.55, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _class_colours(labels: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    numbers, place = np.unique(labels, return_inverse=True)
    return np.array([_class_colour(int(number), names) for number in numbers], np.uint8)[place]


def _draw_scale(draw: ImageDraw.ImageDraw, scale: float, extent: float) -> None:
    """A bar of a round length, about a quarter of the picture."""
    power = 10 ** np.floor(np.log10(extent / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= extent / 4)
    y = _PANEL - 14
    draw.line([(12, y), (12 + length * scale, y)], fill=_INK, width=3)
    draw.text((12, y - 22), f"{length:g}", fill=_INK, font=_font(14))


def _legend(classes: Mapping[int, int], names: Mapping[int, str], width: int) -> Image.Image:
    """A square, name and share for each of the largest classes, in as many lines as it takes."""
    total, x, y = sum(classes.values()), 0, 0
    entries = []
    largest = sorted(classes, key=lambda number: classes[number], reverse=True)[:_MOST_CLASSES]
    for number, count in ((number, classes[number]) for number in sorted(largest)):
        text = f"{number} {names.get(number, '')}  {count / total:.1%}"
        step = int(_font(15).getlength(text)) + 54
        if x + step > width and x:
            x, y = 0, y + 26
        entries.append((x, y, number, text))
        x += step
    legend = Image.new("RGB", (width, y + 26 if entries else 1), _BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for x, y, number, text in entries:
        draw.rectangle((x, y + 3, x + 15, y + 18), fill=_class_colour(number, names))
        draw.text((x + 24, y), text, fill=_FAINT, font=_font(15))
    return legend


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
