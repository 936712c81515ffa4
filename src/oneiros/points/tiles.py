"""Clouds larger than memory, dealt out to square tiles on disk and read back tile by tile.

Legend: N points of a tile and its surroundings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from oneiros.console import Track, silent
from oneiros.data.clouds.cloud import Cloud, CloudFile
from oneiros.points.profile import CloudProfile

TILE_POINTS = 500_000  # a tile holds about so many, its surroundings not counted
CHUNK_POINTS = 1_000_000  # read from a cloud at once
_OTHERS = -1  # row of a point that is another cloud's


@dataclass(frozen=True)
class Tiles:
    """Points dealt out to square tiles, a file each.

    source: the cloud. side: of a tile, in metres. margin: how far around a tile its surroundings reach.
    names: attributes of a point that are kept. counts: how many points each tile has, by its place.
    """

    source: Path
    folder: Path
    side: float
    margin: float
    names: tuple[str, ...]
    counts: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def deal(
        cls,
        file: CloudFile,
        names: tuple[str, ...],
        folder: Path,
        *,
        profile: CloudProfile,
        margin: float,
        around: Sequence[CloudFile] = (),
        track: Track = silent,
    ) -> Tiles:
        """Deal out a cloud, in metres, into files in `folder`; strays are left out. profile: of the cloud.

        around: other clouds with the same attributes; what of them lies within the margin is dealt out as well, as
            surroundings. ValueError where an attribute is not a number.
        """
        tiles = cls(file.path, folder, max(_side(profile), margin), margin, names)
        advance = track("dealing out points", file.num_points)
        row = 0
        for cloud in file.chunks(CHUNK_POINTS, attributes=names):
            tiles._add(replace(cloud, xyz=cloud.xyz * file.metres), row, profile)
            row += len(cloud)
            advance(len(cloud))
        low, high = ((edge * file.metres)[:2] for edge in file.bounds)
        for other in around:
            for cloud in other.chunks(CHUNK_POINTS, attributes=names):
                xyz = cloud.xyz * other.metres
                near = ((xyz[:, :2] >= low - margin) & (xyz[:, :2] <= high + margin)).all(1)
                attributes = {name: values[near] for name, values in cloud.attributes.items()}
                tiles._add(replace(cloud, xyz=xyz[near], attributes=attributes), _OTHERS, profile)
        return tiles

    def each(self) -> Iterator[tuple[Cloud, np.ndarray, np.ndarray]]:
        """A tile with its surroundings, which of these points are its own, bool (N,), and their rows in the source."""
        for place in sorted(self.counts):
            near = [self._read(place)]
            own = near[0]["row"] >= 0
            if not own.any():
                continue
            low = np.array(place) * self.side - self.margin
            high = low + self.side + 2 * self.margin
            for step in itertools.product((-1, 0, 1), repeat=2):
                other = (place[0] + step[0], place[1] + step[1])
                if other != place and other in self.counts:
                    points = self._read(other)
                    within = ((points["xyz"][:, :2] >= low) & (points["xyz"][:, :2] < high)).all(1)
                    near.append(points[within])
            points = np.concatenate(near)
            cloud = Cloud(points["xyz"], self._attributes(points["values"]), path=self.source)
            mine = np.zeros(len(points), bool)
            mine[: len(own)] = own
            yield cloud, mine, near[0]["row"][own]

    @property
    def _dtype(self) -> np.dtype:
        """What a point is on disk."""
        return np.dtype([("row", np.int64), ("xyz", np.float64, 3), ("values", np.float32, len(self.names))])

    def _attributes(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values[:, column] for column, name in enumerate(self.names)}

    def _add(self, cloud: Cloud, first_row: int, profile: CloudProfile) -> None:
        points = np.empty(len(cloud), self._dtype)
        points["row"] = _OTHERS if first_row == _OTHERS else np.arange(first_row, first_row + len(cloud))
        points["xyz"] = cloud.xyz
        for column, name in enumerate(self.names):
            points["values"][:, column] = cloud.attributes[name]
        wrong = ~np.isfinite(points["values"])
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            value = points["values"][row, column]
            raise ValueError(
                f"{self.source}: point {first_row + row}: {self.names[column]} is {value}; it must be a number"
            )
        points = points[~profile.strays(cloud.xyz)]
        places = np.floor(points["xyz"][:, :2] / self.side).astype(np.int64)
        order = np.lexsort((places[:, 1], places[:, 0]))
        found, starts = np.unique(places[order], axis=0, return_index=True)
        for (x, y), part in zip(found.tolist(), np.split(points[order], starts[1:]), strict=True):
            with self._path((x, y)).open("ab") as target:
                target.write(part.tobytes())
            self.counts[x, y] = self.counts.get((x, y), 0) + len(part)

    def _read(self, place: tuple[int, int]) -> np.ndarray:
        return np.fromfile(self._path(place), self._dtype)

    def _path(self, place: tuple[int, int]) -> Path:
        return self.folder / f"tile_{place[0]}_{place[1]}"


def _side(profile: CloudProfile) -> float:
    """Of tiles that hold about `TILE_POINTS` each, if points lie evenly."""
    return math.sqrt(TILE_POINTS / max(profile.density, 1e-6))
