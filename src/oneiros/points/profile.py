"""What a cloud is like, so that one survey can be compared with another: density, intensity, returns, colours, heights.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from oneiros.data.clouds.cloud import CLASSIFICATION, COLOURS, Cloud, CloudFile, concatenate, full_colour
from oneiros.data.clouds.strays import limits, outside
from oneiros.run_folder import from_json

NUM_QUANTILES = 33
NOISE = (7, 18)  # classification codes of points that no ground and no neighbourhood is made of
FLAGS = ("withheld", "synthetic")
RANKED = ("intensity", *COLOURS)
_SAMPLE = 1_000_000  # points that a profile is made of, at most
_SQUARES = (2.0, 16.0)  # metres, of the squares in which density is counted, the larger ones where points are few
_FEW = 4  # points a square
_GROUND_SQUARE = 16.0  # metres, of the squares above whose lowest point heights are counted


@dataclass(frozen=True)
class CloudProfile:
    """What a cloud is like.

    density: points a square metre, where there are any.
    quantiles: of each attribute that tells points apart (intensity, red, green, blue), 33 from the lowest value to the
        highest; absent where all are equal.
    returns: the share of points whose pulse had 1, 2, 3, 4 and more returns; empty where that is not told or all are 1.
    full_colour: what stands for full brightness, 0 without colours.
    limits: the lowest x, y that are no stray's, and the highest. low, high: the ends of x, y, z, strays left out.
    heights: above the lowest point of squares of 16 m, those that a half, 95 % and 99.5 % of the points stay below.
    flags: of those that set points apart (`FLAGS`), the ones that few enough points carry to be heeded.
    unit: of x and y and, where it is another, of z, as the file says it. All else is in metres.
    """

    density: float = 0.0
    quantiles: Mapping[str, Any] = field(default_factory=dict)
    returns: tuple[float, ...] = ()
    full_colour: int = 0
    limits: tuple[tuple[float, ...], tuple[float, ...]] = ((-np.inf, -np.inf), (np.inf, np.inf))
    low: tuple[float, float, float] = (0.0, 0.0, 0.0)
    high: tuple[float, float, float] = (0.0, 0.0, 0.0)
    heights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flags: tuple[str, ...] = ()
    unit: str = ""

    @classmethod
    def of(cls, cloud: Cloud, unit: str = "") -> CloudProfile:
        """Of a whole cloud in metres."""
        return _profile(cloud, 1, unit)

    @classmethod
    def of_file(cls, file: CloudFile) -> CloudProfile:
        """Of a file, in metres, from at most a million points spread over it."""
        return cls.of_files([file])

    @classmethod
    def of_files(cls, files: Sequence[CloudFile]) -> CloudProfile:
        """Of several files as one cloud, likewise; of attributes that all of them have. None have no points."""
        if not files:
            return cls()
        step = max(-(-sum(file.num_points for file in files) // _SAMPLE), 1)
        known = set.intersection(*(set(file.attribute_names) for file in files))
        names = [name for name in (*RANKED, *_RETURNS, *FLAGS, CLASSIFICATION) if name in known]
        parts = [part for file in files for part in _sampled(file, names, step)]
        return _profile(concatenate(parts), step, said_unit(files[0]))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CloudProfile:
        return from_json(cls, values, "what it learned from")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def strays(self, xyz: np.ndarray) -> np.ndarray:
        """Which points (N, 3) lie so far from all others that no scanner put them there: bool (N,)."""
        return outside(xyz, *map(np.array, self.limits))

    def context(self, cloud: Cloud) -> np.ndarray:
        """Which points others may be judged by: not strays, not noise by their class, not set apart by a flag."""
        kept = ~self.strays(cloud.xyz)
        if (codes := cloud.attributes.get(CLASSIFICATION)) is not None:
            kept &= ~np.isin(codes, NOISE)
        for name in self.flags:
            kept &= np.asarray(cloud.attributes[name]) == 0
        return kept

    def ranks(self, name: str, values: np.ndarray) -> np.ndarray | None:
        """Where values stand among those of the cloud, from -1 to 1; None where the cloud's are all equal."""
        knots = self.quantiles.get(name)
        if knots is None:
            return None
        levels, first, counts = np.unique(np.asarray(knots), return_index=True, return_counts=True)
        places = (first + (counts - 1) / 2) / (len(knots) - 1)
        return (2 * np.interp(values.astype(np.float64), levels, places) - 1).astype(np.float32)


def _sampled(file: CloudFile, names: Sequence[str], step: int) -> Iterator[Cloud]:
    """Every so many points of a file, in metres."""
    row = 0
    for cloud in file.chunks(attributes=names):
        chosen = slice(-row % step, None, step)
        attributes = {name: values[chosen] for name, values in cloud.attributes.items()}
        yield Cloud(cloud.xyz[chosen] * file.metres, attributes, path=cloud.path)
        row += len(cloud)


_RETURNS = ("return_number", "number_of_returns")
_RETURN_BINS = 4


def said_unit(file: CloudFile) -> str:
    """Such as `metre`, or `metre, z in foot`; empty where nothing says it."""
    unit, vertical = file.unit or "", file.vertical_unit
    return f"{unit}, z in {vertical}" if vertical and vertical != unit else unit


def _profile(cloud: Cloud, step: int, unit: str) -> CloudProfile:
    if not len(cloud):
        return CloudProfile(unit=unit)
    edges = limits(cloud.xyz)
    inside = ~outside(cloud.xyz, *edges)
    xyz, names = cloud.xyz[inside], cloud.attributes
    quantiles = {name: _quantiles(names[name][inside]) for name in RANKED if name in names}
    colours = [full_colour(names[name]) for name in COLOURS if name in names]
    return CloudProfile(
        density=_density(xyz, step),
        quantiles={name: values for name, values in quantiles.items() if values[0] < values[-1]},
        returns=_shares(cloud, inside),
        full_colour=max(colours, default=0),
        limits=(tuple(edges[0].tolist()), tuple(edges[1].tolist())),
        low=tuple(xyz.min(0).tolist()),
        high=tuple(xyz.max(0).tolist()),
        heights=_heights(xyz),
        flags=tuple(name for name in FLAGS if name in names and 0 < np.mean(names[name] != 0) < 0.5),
        unit=unit,
    )


def _heights(xyz: np.ndarray) -> tuple[float, float, float]:
    places = np.floor(xyz[:, :2] / _GROUND_SQUARE).astype(np.int64)
    _, square = np.unique((places[:, 0] << 32) + places[:, 1], return_inverse=True)
    lowest = np.full(int(square.max()) + 1, np.inf)
    np.minimum.at(lowest, square, xyz[:, 2])
    half, most, all_but_few = np.quantile(xyz[:, 2] - lowest[square], [0.5, 0.95, 0.995]).tolist()
    return half, most, all_but_few


def _density(xyz: np.ndarray, step: int) -> float:
    """Points a square metre where there are any, each of `xyz` standing for `step` of them."""
    for side in _SQUARES:
        places = np.floor(xyz[:, :2] / side).astype(np.int64)
        count = len(xyz) / len(np.unique((places[:, 0] << 32) + places[:, 1]))
        if count >= _FEW:
            break
    return step * count / side**2


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return (0.0, 0.0)
    return tuple(np.quantile(values, np.linspace(0, 1, NUM_QUANTILES)).tolist())


def _shares(cloud: Cloud, inside: np.ndarray) -> tuple[float, ...]:
    """Of points by the number of returns of their pulse."""
    if not set(_RETURNS) <= cloud.attributes.keys():
        return ()
    counts = np.asarray(cloud.attributes["number_of_returns"])[inside].astype(np.int64)
    known = np.bincount(counts.clip(0, _RETURN_BINS), minlength=_RETURN_BINS + 1)[1:]
    return tuple((known / max(known.sum(), 1)).tolist()) if known[1:].sum() else ()
