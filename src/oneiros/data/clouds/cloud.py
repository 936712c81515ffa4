"""A cloud of points, and what every file of points offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

CLASSIFICATION = "classification"
CHUNK = 1_000_000  # points read at once where the caller says nothing: some 100 MB with every attribute
COLOURS = ("red", "green", "blue")
METRES = {"metre": 1.0, "foot": 0.3048, "US survey foot": 1200 / 3937}  # how many a unit of length has


@dataclass(frozen=True)
class Cloud:
    """Points as a file holds them, in its order.

    xyz: float64 (N, 3), in the file's own coordinates.
    attributes: by name, one value per point, (N,) or (N, n): intensity, classification, red, ... whatever there is.
    crs: the coordinate reference system as the file writes it (WKT, or EPSG:n), None where it says nothing.
    path: where it comes from, None for a cloud made here.
    class_names: what the numbers of the classification mean, where that is known.
    """

    xyz: np.ndarray
    attributes: Mapping[str, np.ndarray]
    crs: str | None = None
    path: Path | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise ValueError(f"{self._name}: xyz has shape {self.xyz.shape}; it must be (N, 3)")
        for name, values in self.attributes.items():
            if len(values) != len(self.xyz):
                raise ValueError(f"{self._name}: {name} has {len(values)} values for {len(self.xyz)} points")
        wrong = ~np.isfinite(self.xyz)
        if wrong.any():
            row, axis = np.argwhere(wrong)[0]
            raise ValueError(
                f"{self._name}: point {row} of {len(self)}: {'xyz'[axis]} is {self.xyz[row, axis]} (and so for "
                f"{wrong.any(axis=1).sum() - 1:,} more points); coordinates must be numbers"
            )

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def _name(self) -> str:
        return str(self.path or "cloud")

    @property
    def classification(self) -> np.ndarray | None:
        """int64 (N,), or None where the file has no classes. ValueError for values that are no whole number from 0."""
        values = self.attributes.get(CLASSIFICATION)
        if values is None:
            return None
        wrong = ~((values >= 0) & (values == np.floor(values)))
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"{self._name}: point {row}: the class is {values[row]}; it must be 0, 1, 2, ...")
        return values.astype(np.int64)

    def colours(self) -> np.ndarray | None:
        """Red, green, blue as float32 (N, 3) in [0, 1], or None where the file has none.

        Integers are taken for 8 bits when none is above 255 (many files of 16-bit fields hold such), else for 16.
        ValueError when a colour is NaN.
        """
        if not all(name in self.attributes for name in COLOURS):
            return None
        values = np.stack([self.attributes[name] for name in COLOURS], axis=1)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row, channel = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"{self._name}: point {row}: {COLOURS[channel]} is {values[row, channel]}")
        return values.astype(np.float32) / np.float32(full_colour(values))


def full_colour(values: np.ndarray) -> int:
    """What stands for full brightness among these colours: 1, 255 or 65535; see `Cloud.colours`."""
    highest = values.max(initial=0)
    return 1 if values.dtype.kind == "f" and highest <= 1 else 255 if highest <= 255 else 65535


def concatenate(clouds: Sequence[Cloud]) -> Cloud:
    """Clouds of the same attributes as one; what else there is comes from the first. ValueError when there is none."""
    if not clouds:
        raise ValueError("there is no cloud to put together")
    names = clouds[0].attributes
    attributes = {name: np.concatenate([cloud.attributes[name] for cloud in clouds]) for name in names}
    return replace(clouds[0], xyz=np.concatenate([cloud.xyz for cloud in clouds]), attributes=attributes)


class CloudFile(ABC):
    """A file of points opened for reading; only its header has been read (see `formats.open_cloud`)."""

    path: Path
    format: str  # in words
    num_points: int
    attribute_names: tuple[str, ...]
    crs: str | None
    unit: str | None  # of x and y, where the file says it: metre, degree, foot, US survey foot
    vertical_unit: str | None = None  # of z, where the file says one apart
    single: bool = False  # whether coordinates are float32
    class_names: Mapping[int, str]

    @property
    def metres(self) -> np.ndarray:
        """What x, y, z are multiplied by to be in metres, float64 (3,); 1 where nothing says the unit."""
        wide = METRES.get(self.unit or "metre", 1.0)
        return np.array([wide, wide, METRES.get(self.vertical_unit or "", wide)])

    @property
    def highest_class(self) -> int:
        """The highest classification code that the file can hold."""
        return 255

    @property
    @abstractmethod
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x, y, z, each float64 (3,); for LAS and LAZ what the header says."""

    @abstractmethod
    def _stream(self, sizes: Iterable[int], names: Collection[str]) -> Iterator[Cloud]:
        """Consecutive clouds of so many points, with the attributes of these names."""

    @cached_property
    def classes(self) -> dict[int, int]:
        """How many points each class has, by number; empty where the file has no classes. Reads the file once."""
        if CLASSIFICATION not in self.attribute_names:
            return {}
        counts: dict[int, int] = {}
        for cloud in self.chunks(CHUNK, attributes=(CLASSIFICATION,)):
            assert cloud.classification is not None
            for number, count in zip(*np.unique(cloud.classification, return_counts=True), strict=True):
                counts[int(number)] = counts.get(int(number), 0) + int(count)
        return dict(sorted(counts.items()))

    def read(self, *, attributes: Collection[str] | None = None) -> Cloud:
        """The whole cloud, with these attributes (all). ValueError when the file is damaged or a name is not there."""
        return next(self._stream([self.num_points], self._chosen(attributes)))

    def read_metres(self) -> Cloud:
        """The whole cloud with coordinates in metres."""
        cloud = self.read()
        return replace(cloud, xyz=cloud.xyz * self.metres)

    def chunks(self, num_points: int = CHUNK, *, attributes: Collection[str] | None = None) -> Iterator[Cloud]:
        """The cloud in pieces of `num_points` (the last may be smaller), in the file's order; memory holds one."""
        if num_points < 1:
            raise ValueError(f"chunks of {num_points} points; at least 1")
        starts = range(0, self.num_points, num_points)
        sizes = (min(num_points, self.num_points - start) for start in starts)
        return self._stream(sizes, self._chosen(attributes))

    def _chosen(self, attributes: Collection[str] | None) -> Collection[str]:
        if attributes is None:
            return self.attribute_names
        if missing := set(attributes) - set(self.attribute_names):
            raise ValueError(
                f"{self.path}: has no {', '.join(sorted(missing))}; it has {', '.join(self.attribute_names) or 'none'}"
            )
        return attributes
