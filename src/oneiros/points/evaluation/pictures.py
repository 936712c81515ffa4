"""Classified clouds as pictures: from above, and cut upright where most went wrong.

Pictures are uint8 (H, W, 4), transparent where there is no point. Labels are class numbers, -1 where unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN, RIGHT, WRONG = (128, 128, 128), (150, 153, 158), (222, 30, 90)
_BY_WORD = {
    "ground": (168, 124, 82),
    "vegetation": (62, 150, 78),
    "building": (226, 132, 46),
    "water": (54, 122, 196),
    "road": (110, 104, 122),
}
_OTHERS = (
    (140, 86, 190), (0, 160, 160), (214, 176, 30), (196, 98, 150), (128, 190, 60), (90, 90, 200), (190, 70, 50)
)  # fmt: skip
_WIDEST = 640  # pixels of a picture from above
_BLOCK = 4.0  # metres: errors are counted in blocks of this size
_SECTION_LENGTH, _SECTION_DEPTH = 40.0, 2.0  # metres
_SECTION_WIDTH = 480  # pixels
_DOT = 3  # pixels of a point in a section
_GAP = 8  # pixels between pictures
_OUTLINE, _INK = 2, (30, 80, 220, 255)  # pixels, colour


@dataclass(frozen=True)
class Section:
    """An upright cut: the points within `low` <= xy <= `high`, looked at along the box's thin side.

    low, high: (2,) metres, in the cloud's coordinates. axis: 0 where the section runs along x, 1 along y. wrong: how
    many points in it were called the wrong class.
    """

    low: np.ndarray
    high: np.ndarray
    axis: int
    wrong: int

    def holds(self, xyz: np.ndarray) -> np.ndarray:
        """Which points lie in the section: bool (N,)."""
        return np.all((xyz[:, :2] >= self.low) & (xyz[:, :2] <= self.high), axis=1)


def class_colours(names: Sequence[str]) -> np.ndarray:
    """A colour for each class, uint8 (K, 3): brown ground, green vegetation and so on, others from a list."""
    free, colours = dict(_BY_WORD), []
    for number, name in enumerate(names):
        word = next((word for word in free if word in name.lower()), None)
        colours.append(free.pop(word) if word else _OTHERS[number % len(_OTHERS)])
    return np.array(colours, np.uint8)


def label_colours(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """labels: (N,); colours: (K, 3). Returns uint8 (N, 3); grey where the label is -1."""
    return np.concatenate([colours, np.array([UNKNOWN], np.uint8)])[labels]


def error_colours(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """uint8 (N, 3): one colour for points called the wrong class, grey for all others."""
    return np.where(is_wrong(truth, predicted)[:, None], WRONG, RIGHT).astype(np.uint8)


def is_wrong(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return (truth >= 0) & (truth != predicted)


@dataclass(frozen=True)
class View:
    """A way to colour a cloud. colours: uint8 (N, 3). first: bool (N,), points that hide others even from below."""

    name: str
    colours: np.ndarray
    first: np.ndarray | None = None


def views(truth: np.ndarray, predicted: np.ndarray, colours: np.ndarray) -> list[View]:
    """Truth, prediction, errors. colours: of the classes, uint8 (K, 3)."""
    return [
        View("truth", label_colours(truth, colours)),
        View("prediction", label_colours(predicted, colours)),
        View("errors", error_colours(truth, predicted), is_wrong(truth, predicted)),
    ]


def triptych(xyz: np.ndarray, truth: np.ndarray, predicted: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Truth, prediction and errors from above, side by side with gaps: uint8 (H, W, 4)."""
    pictures = [from_above(xyz, view)[0] for view in views(truth, predicted, colours)]
    gap = np.zeros((len(pictures[0]), _GAP, 4), np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=1)


def from_above(xyz: np.ndarray, view: View) -> tuple[np.ndarray, float]:
    """The cloud seen from above, north up; also the size of a pixel in metres.

    xyz: (N, 3), N > 0. Slopes to the north-west are lighter, so that shapes can be told. A pixel is no smaller than
    points are apart on average.
    """
    low, high = xyz[:, :2].min(axis=0), xyz[:, :2].max(axis=0)
    pixel = _pixel(high - low, len(xyz))
    at = ((xyz[:, :2] - low) / pixel).astype(np.int64)
    width, height = (int(size) for size in at.max(axis=0) + 1)
    place = (height - 1 - at[:, 1]) * width + at[:, 0]
    relief = _highest(place, xyz[:, 2], height * width)
    rank = xyz[:, 2] if view.first is None else xyz[:, 2] + view.first * (np.ptp(xyz[:, 2]) + 1)
    seen = rank == _highest(place, rank, height * width)[place]
    picture = np.zeros((height * width, 4), np.uint8)
    picture[place[seen]] = _opaque(view.colours[seen])
    picture = picture.reshape(height, width, 4)
    light = _light(relief.reshape(height, width), pixel)
    picture[..., :3] = (picture[..., :3] * light[..., None]).clip(0, 255)
    return picture, pixel


def _highest(place: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """The greatest value at each place, -inf where there is none: (size,)."""
    highest = np.full(size, -np.inf)
    np.maximum.at(highest, place, values)
    return highest


def _pixel(extent: np.ndarray, count: int) -> float:
    """Metres. Wide enough that few pixels stay empty between points, and that the picture is no wider than allowed."""
    apart = float(np.sqrt(extent.prod() / count))
    return max(1.5 * apart, float(extent.max()) / _WIDEST, 1e-6)


def _light(relief: np.ndarray, pixel: float) -> np.ndarray:
    """0.7 to 1.15 by how much higher the south-eastern neighbour is; 1 beside pixels without a point."""
    rise = np.zeros_like(relief)
    with np.errstate(invalid="ignore"):
        rise[:-1, :-1] = relief[1:, 1:] - relief[:-1, :-1]
    rise[~np.isfinite(rise)] = 0
    return 1 + 0.3 * np.clip(rise / (3 * pixel), -1, 0.5)


def worst_section(xyz: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Section | None:
    """Where to cut: through the block with most wrong points, along x or y, whichever shows more of them.

    None where every point is right.
    """
    wrong = is_wrong(truth, predicted)
    if not wrong.any():
        return None
    places = xyz[wrong, :2]
    blocks, counts = np.unique(np.floor(places / _BLOCK), axis=0, return_counts=True)
    block = blocks[counts.argmax()] * _BLOCK
    inside = places[((places >= block) & (places < block + _BLOCK)).all(axis=1)]
    middle = np.abs(inside - np.median(inside, axis=0)).sum(axis=1).argmin()
    cuts = [_cut(inside[middle], axis, xyz, places) for axis in (0, 1)]
    return max(cuts, key=lambda cut: cut.wrong)


def _cut(centre: np.ndarray, axis: int, xyz: np.ndarray, wrong: np.ndarray) -> Section:
    """A box around the centre, moved along its axis until it lies within the cloud, or as long as the cloud."""
    start, end = xyz[:, axis].min(), xyz[:, axis].max()
    low, high = centre - _SECTION_DEPTH / 2, centre + _SECTION_DEPTH / 2
    low[axis] = np.clip(centre[axis] - _SECTION_LENGTH / 2, start, max(start, end - _SECTION_LENGTH))
    high[axis] = min(low[axis] + _SECTION_LENGTH, end)
    return Section(low, high, axis, int(((wrong >= low) & (wrong <= high)).all(axis=1).sum()))


def _opaque(colours: np.ndarray) -> np.ndarray:
    return np.pad(colours, ((0, 0), (0, 1)), constant_values=255)


def upright(xyz: np.ndarray, view: View, section: Section) -> np.ndarray:
    """The points of a section from the side, one scale for both directions."""
    held = section.holds(xyz)
    along, z = xyz[held, section.axis] - section.low[section.axis], xyz[held, 2]
    bottom, top = np.quantile(z, [0.002, 0.998])  # a stray point far above or below would shrink all others
    pixel = max(section.high[section.axis] - section.low[section.axis], top - bottom, 1e-6) / _SECTION_WIDTH
    height = int((top - bottom) / pixel) + 4 * _DOT
    picture = np.zeros((height, _SECTION_WIDTH + _DOT, 4), np.uint8)
    column, row = (along / pixel).astype(int), height - 2 * _DOT - ((z - bottom) / pixel).astype(int)
    order = np.arange(len(z)) if view.first is None else np.argsort(view.first[held], kind="stable")
    colours = _opaque(view.colours[held])[order]
    for across in range(_DOT):
        for down in range(_DOT):
            x, y = (column + across)[order], (row + down)[order]
            seen = (x >= 0) & (x < picture.shape[1]) & (y >= 0) & (y < height)
            picture[y[seen], x[seen]] = colours[seen]
    return picture


def mark(picture: np.ndarray, pixel: float, xyz: np.ndarray, section: Section) -> np.ndarray:
    """A picture from above with the section's outline drawn into it."""
    marked, corner = picture.copy(), xyz[:, :2].min(axis=0)
    (left, bottom), (right, top) = (((edge - corner) / pixel).astype(int) for edge in (section.low, section.high))
    height, width = picture.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    outside = np.maximum.reduce(
        np.broadcast_arrays(left - columns, columns - right, height - 1 - top - rows, rows - height + 1 + bottom)
    )
    marked[(outside > 0) & (outside <= _OUTLINE)] = _INK
    return marked
