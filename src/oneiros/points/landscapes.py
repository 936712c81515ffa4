"""The same clouds as other surveys would have found them: thinner, larger, on hills, with false echoes.

Legend: N points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from oneiros.data.clouds.cloud import Cloud
from oneiros.points.cells import NOT_LEARNED

_MOST = 0.85  # share of the points that a roof may replace
_GROUNDED = 0.25  # share of the points of a cut, or of those beside a roof, that must be ground


@dataclass(frozen=True)
class Landscape:
    """How far a cloud is changed by chance, each between these two, with the same chance for each factor.

    wide, high: x and y, and z, are scaled by. share: of the points that stay.
    slope: of the hills that are added, rise over run, which are about as steep at their steepest; each slope with the
        same chance. length: of the hills' waves, in metres. echoes: false ones below and above, at most.
    side: of the rectangle that half of the clouds are cut to, in metres.
    roof, height: of the roof that replaces what lies below it in half of the clouds, in metres. pitch: rise over run
        that it has at most. gap: in half of those, the width of what is unseen around it, in metres.
    bare: how often nothing but the ground stays: fields, where a plane is all there is.
    """

    wide: tuple[float, float] = (0.5, 2.5)
    high: tuple[float, float] = (0.4, 1.6)
    share: tuple[float, float] = (0.08, 1.0)
    slope: tuple[float, float] = (0.0, 0.9)
    length: tuple[float, float] = (60.0, 400.0)
    echoes: int = 20
    side: tuple[float, float] = (10.0, 100.0)
    roof: tuple[float, float] = (15.0, 80.0)
    height: tuple[float, float] = (3.0, 30.0)
    pitch: float = 0.15
    gap: tuple[float, float] = (2.0, 20.0)
    bare: float = 0.3


def changed(
    cloud: Cloud,
    labels: np.ndarray,
    random: np.random.Generator,
    *,
    landscape: Landscape | None = None,
    built: tuple[int, int] | None = None,
) -> tuple[Cloud, np.ndarray]:
    """A cloud in metres and its labels (N,) in another landscape; false echoes are labelled -1.

    built: the labels of ground and of buildings, where the classes have both: only then are roofs added.
    """
    how = landscape or Landscape()
    kept = np.flatnonzero(random.random(len(cloud)) < _between(random, how.share))
    kept = kept if len(kept) else np.arange(len(cloud))
    corner = cloud.xyz.min(0)
    xyz = (cloud.xyz[kept] - corner) * [*[_between(random, how.wide)] * 2, _between(random, how.high)]
    labels = labels[kept]
    if random.random() < 0.5:
        inside = _outside(xyz, random, how.side) == 0
        if built is None or _grounded(labels[inside], built[0]):
            xyz, labels, kept = xyz[inside], labels[inside], kept[inside]
    if built:
        bare, roofed = random.random() < how.bare, random.random() < 0.5
        if bare and (labels == built[0]).any():
            xyz, labels, kept = (each[labels == built[0]] for each in (xyz, labels, kept))
        elif roofed:
            xyz, labels, stays = _roofed(xyz, labels, random, how, built)
            kept = kept[stays]
    xyz[:, 2] += _hills(xyz[:, :2], random.uniform(*how.slope), random, how)
    xyz += corner
    number = int(random.integers(0, how.echoes + 1))
    rows = random.integers(0, len(xyz), number)
    false = xyz[rows] + random.normal(0, 3, (number, 3)) * (1, 1, 0)
    false[:, 2] += np.where(random.random(number) < 0.7, -1, 1) * random.uniform(2, 60, number)
    rows = np.concatenate([kept, kept[rows]])
    attributes = {name: np.asarray(values)[rows] for name, values in cloud.attributes.items()}
    new = replace(cloud, xyz=np.concatenate([xyz, false]), attributes=attributes)
    return new, np.concatenate([labels, np.full(number, NOT_LEARNED)])


def _outside(xyz: np.ndarray, random: np.random.Generator, sides: tuple[float, float]) -> np.ndarray:
    """How far points lie from a rectangle around one of them: (N,), 0 within."""
    middle = xyz[random.integers(len(xyz)), :2]
    size = np.array([_between(random, sides), _between(random, sides)])
    return np.maximum(np.abs(xyz[:, :2] - middle) - size / 2, 0).max(1)


def _grounded(labels: np.ndarray, ground: int) -> bool:
    """Whether so much is ground that a plane by itself is not more often a roof."""
    return bool(len(labels)) and float(np.mean(labels == ground)) > _GROUNDED


def _roofed(
    xyz: np.ndarray, labels: np.ndarray, random: np.random.Generator, how: Landscape, built: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ground and buildings of a rectangle raised to one roof, nothing else left there; and which points stay."""
    ground, building = built
    away = _outside(xyz, random, how.roof)
    hidden = (away > 0) & (away < (_between(random, how.gap) if random.random() < 0.5 else 0))
    raised = (away == 0) & np.isin(labels, built)
    around = labels[(away > 0) & ~hidden]
    below = xyz[raised & (labels == ground)]
    if not len(below) or not _grounded(around, ground) or raised.sum() > _MOST * (raised.sum() + len(around)):
        return xyz, labels, np.ones(len(xyz), bool)
    height = np.quantile(below[:, 2], 0.9) + _between(random, how.height)
    pitch = random.uniform(-how.pitch, how.pitch, 2) @ (xyz[raised, :2] - below[0, :2]).T / np.sqrt(2)
    xyz, labels = xyz.copy(), labels.copy()
    xyz[raised, 2] = np.maximum(height + pitch, below[:, 2].max() + how.height[0])
    xyz[raised, 2] += random.normal(0, 0.03, int(raised.sum()))
    labels[raised] = building
    stays = raised | ((away > 0) & ~hidden)
    return xyz[stays], labels[stays], stays


def _between(random: np.random.Generator, ends: tuple[float, float]) -> float:
    return float(np.exp(random.uniform(*np.log(ends))))


def _hills(places: np.ndarray, slope: float, random: np.random.Generator, how: Landscape) -> np.ndarray:
    """Heights of two waves of any direction, which together are as steep as `slope` at their steepest."""
    found = np.zeros(len(places))
    for _ in range(2):
        angle, phase = random.uniform(0, 2 * np.pi, 2)
        wave = 2 * np.pi / _between(random, how.length)
        found += slope / 2 / wave * np.sin(wave * places @ np.array([np.cos(angle), np.sin(angle)]) + phase)
    return found
