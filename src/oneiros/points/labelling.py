"""Clouds of any size, labelled by a trained segmenter with memory that does not grow with them.

A cloud is first dealt out to square blocks on disk; then each block is labelled, with what lies around it in sight.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.cloud import COLOURS, full_colour
from oneiros.data.clouds.formats import Cloud, CloudFile, open_cloud, write_labels
from oneiros.data.clouds.relabel import check_paths
from oneiros.points.cells import Cells, attributes_for, make_cells, margin_of, num_channels
from oneiros.points.segmenter import Segmenter
from oneiros.records import PointBatch

_BLOCK_POINTS = 500_000  # a block holds about so many, its surroundings not counted
_CHUNK_POINTS = 1_000_000


def load_segmenter(run: Path, *, device: str = "cpu") -> Segmenter:
    """The segmenter of a run folder. ValueError when it is none, or one of other features than those that we know."""
    model = Segmenter.load(run, device=device)
    features, in_dim = model.config.features, model.config.network.in_dim
    if num_channels(features) != in_dim:
        raise ValueError(f"{run}: heights, {', '.join(features)} are not the {in_dim} features that its network takes")
    return model


def label_points(model: Segmenter, cloud: Cloud, wanted: np.ndarray | None = None) -> Tensor:
    """Probabilities of the classes of a cloud's points, float32 (N, K), on the CPU.

    wanted: bool (N,), points that need them; others only give context and may come out as nan.
    """
    cells = make_cells(cloud, model.config.network.grid, model.config.features)
    needed = None
    if wanted is not None:
        needed = torch.zeros(len(cells), dtype=torch.bool)
        needed[cells.inverse[torch.from_numpy(wanted)]] = True
    return label_cells(model, cells, needed)[cells.inverse]


def label_cells(model: Segmenter, cells: Cells, wanted: Tensor | None = None) -> Tensor:
    """The same for a cloud's cells: float32 (S, K), wanted: bool (S,)."""
    xyz = cells.xyz.clone()
    xyz[:, :2] += torch.from_numpy(cells.origin[:2] % model.config.radius)  # fields, too, stand where the world says
    batch = PointBatch(xyz, cells.features, None, torch.tensor([0, len(cells)])).to(model.mean.device)
    return model.probabilities(batch, wanted).cpu()


def label_file(
    model: Segmenter, source: Path, out: Path, *, probabilities: bool = False, track: Track = silent
) -> dict[str, int]:
    """Write a copy of the cloud `source` whose points are classified by `model`; nothing else of it changes.

    probabilities: also write those of each class, as further attributes. Returns how many points each class has.
    Raises ValueError for a cloud that does not fit the model, OSError where the disk takes no more; then there is no
    `out`.
    """
    file = open_cloud(source)
    check_paths(source, out)
    if not file.num_points:
        raise ValueError(f"{source}: holds no points to label")
    require_metres(file)
    attributes, names = attributes_for(file, model.config.features), model.config.names
    with _work_folder(out) as folder:
        blocks = _Blocks.deal(file, attributes, model, folder, track)
        labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, (file.num_points,))
        chances = None
        if probabilities:
            shape = (file.num_points, len(names))
            chances = np.lib.format.open_memmap(folder / "probabilities.npy", "w+", np.float32, shape)
        codes, counts = np.array(model.config.writes, np.uint8), np.zeros(len(names), np.int64)
        advance = track("labelling points", file.num_points)
        for cloud, own, rows in blocks.each():
            found = label_points(model, cloud, own)[torch.from_numpy(own)].numpy()
            best = found.argmax(1)
            labels[rows] = codes[best]
            counts += np.bincount(best, minlength=len(names))
            if chances is not None:
                chances[rows] = found
            advance(len(rows))
        write_labels(
            source,
            out,
            _parts(labels),
            probabilities=None if chances is None else _parts(chances),
            class_names=None if chances is None else names,
        )
    return dict(zip(names, counts.tolist(), strict=True))


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """Read from disk piece by piece; integers as write_labels wants them."""
    for start in range(0, len(values), _CHUNK_POINTS):
        yield np.array(values[start : start + _CHUNK_POINTS])


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, gone afterwards: what is dealt out may be larger than memory and than /tmp."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Blocks:
    """Points dealt out to square blocks, a file each. record: what a point is on disk."""

    source: Path
    folder: Path
    side: float
    margin: float
    record: np.dtype
    names: tuple[str, ...]
    counts: dict[tuple[int, int], int]
    full_colour: list[int]  # of each chunk: one part of a cloud may be too dark to tell 8 bits from 16

    @classmethod
    def deal(cls, file: CloudFile, names: tuple[str, ...], model: Segmenter, folder: Path, track: Track) -> _Blocks:
        record = np.dtype([("row", np.int64), ("xyz", np.float64, 3), ("values", np.float32, len(names))])
        margin = 2 * model.config.radius + margin_of(model.config.network.grid)  # all of every field that sees a block
        blocks = cls(file.path, folder, max(_side(file), margin), margin, record, names, {}, [])
        advance = track("dealing out points", file.num_points)
        row = 0
        for cloud in file.chunks(_CHUNK_POINTS, attributes=names):
            blocks._add(cloud, row)
            row += len(cloud)
            advance(len(cloud))
        return blocks

    def each(self) -> Iterator[tuple[Cloud, np.ndarray, np.ndarray]]:
        """A block with its surroundings, which of these points are its own, and their rows in the file."""
        for place in sorted(self.counts):
            near = [self._read(place)]
            own = len(near[0])
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
            yield cloud, np.arange(len(points)) < own, near[0]["row"]

    def _attributes(self, values: np.ndarray) -> dict[str, np.ndarray]:
        attributes = {name: values[:, column] for column, name in enumerate(self.names)}
        return attributes | {name: attributes[name] / max(self.full_colour) for name in COLOURS if name in attributes}

    def _add(self, cloud: Cloud, first_row: int) -> None:
        points = np.empty(len(cloud), self.record)
        points["row"] = np.arange(first_row, first_row + len(cloud))
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
        colours = [full_colour(cloud.attributes[name]) for name in COLOURS if name in cloud.attributes]
        self.full_colour.append(max(colours, default=1))
        places = np.floor(cloud.xyz[:, :2] / self.side).astype(np.int64)
        order = np.lexsort((places[:, 1], places[:, 0]))
        found, starts = np.unique(places[order], axis=0, return_index=True)
        for (x, y), part in zip(found.tolist(), np.split(points[order], starts[1:]), strict=True):
            with self._path((x, y)).open("ab") as target:
                part.tofile(target)
            self.counts[x, y] = self.counts.get((x, y), 0) + len(part)

    def _read(self, place: tuple[int, int]) -> np.ndarray:
        return np.fromfile(self._path(place), self.record)

    def _path(self, place: tuple[int, int]) -> Path:
        return self.folder / f"block_{place[0]}_{place[1]}"


def _side(file: CloudFile) -> float:
    """Of blocks that hold about `_BLOCK_POINTS` each, if points lie evenly."""
    low, high = file.bounds
    area = float(np.prod(np.maximum(high - low, 1e-3)[:2]))
    return math.sqrt(area * _BLOCK_POINTS / file.num_points)
