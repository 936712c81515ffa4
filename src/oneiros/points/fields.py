"""Receptive fields drawn from clouds, changed by chance as surveys differ: what a segmenter trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree

from oneiros.points.cells import NOT_LEARNED, Cells, layout, may_miss
from oneiros.records import PointBatch


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a receptive field.

    stretch: each axis is scaled by up to this fraction more or less. flip: x mirrored half of the time. turn: about
    the vertical, by any angle. jitter: standard deviation added to coordinates, in cells of the grid. dim: intensity
    and colours that are no ranks are scaled by up to this fraction. thin: half of the fields keep a share of their
    cells, between this one and all. warp: ranks are bent by a power whose logarithm has this deviation. drop: how often
    a field loses a feature that clouds may lack.
    """

    stretch: float = 0.1
    flip: bool = True
    turn: bool = True
    jitter: float = 0.05
    dim: float = 0.1
    thin: float = 0.04
    warp: float = 0.5
    drop: float = 0.3


class Fields:
    """Vertical cylinders around cells, drawn so that every class stands in the middle equally often."""

    def __init__(
        self,
        clouds: Sequence[Cells],
        *,
        features: Sequence[str],
        num_classes: int,
        radius: float,
        grid: float,
        max_points: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        """features: the channels of the cells, see `cells.layout`. Raises ValueError where no cell carries a label."""
        self.clouds, self.radius, self.grid, self.max_points = clouds, radius, grid, max_points
        self.layout = layout(features)
        self.augmentation = augmentation or Augmentation()
        self.trees = [KDTree(cells.xyz[:, :2].numpy()) for cells in clouds]
        labels = np.concatenate([_labels(cells) for cells in clouds])
        self.starts = np.cumsum([0, *(len(cells) for cells in clouds)])
        self.members = [np.flatnonzero(labels == number) for number in range(num_classes)]
        self.present = [number for number, members in enumerate(self.members) if len(members)]
        if not self.present:
            raise ValueError("no cell of the training clouds carries a class to learn")

    def __len__(self) -> int:
        """How many cells may stand in the middle."""
        return int(self.starts[-1])

    def batch(self, seeds: Sequence[int]) -> PointBatch:
        """One field for each seed, which alone decides it."""
        fields = [self._draw(np.random.default_rng(seed)) for seed in seeds]
        xyz, features, labels = (torch.cat(parts) for parts in zip(*fields, strict=True))
        offsets = torch.tensor([0, *(len(field[0]) for field in fields)]).cumsum(0)
        return PointBatch(xyz, features, labels, offsets)

    def _draw(self, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        number = random.choice(self.members[random.choice(self.present)])
        which = int(np.searchsorted(self.starts, number, side="right")) - 1
        cells = self.clouds[which]
        centre = cells.xyz[number - self.starts[which], :2].numpy()
        centre = centre + random.uniform(-0.5, 0.5, 2) * self.radius
        found = np.sort(self.trees[which].query_ball_point(centre, self.radius))
        size = min(self._thinned(len(found), random), self.max_points)
        if len(found) > size:
            found = np.sort(random.choice(found, size, replace=False))
        rows = torch.from_numpy(found)
        assert cells.labels is not None
        xyz, scale = self._moved(cells.xyz[rows].numpy().astype(np.float64), centre, random)
        return xyz, self._changed(cells.features[rows].clone(), scale, random), cells.labels[rows]

    def _thinned(self, size: int, random: np.random.Generator) -> int:
        """How many of a field's cells stay."""
        if self.augmentation.thin >= 1 or random.random() < 0.5:
            return size
        return max(int(size * np.exp(random.uniform(np.log(self.augmentation.thin), 0))), min(size, _FEWEST))

    def _moved(
        self, xyz: np.ndarray, centre: np.ndarray, random: np.random.Generator
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Coordinates around the centre, and how the axes were scaled."""
        change = self.augmentation
        xyz[:, :2] -= centre
        scale = 1 + random.uniform(-change.stretch, change.stretch, 3)
        if change.flip and random.random() < 0.5:
            scale[0] = -scale[0]
        angle = random.uniform(0, 2 * np.pi) if change.turn else 0.0
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        xyz = xyz * scale
        xyz[:, :2] = xyz[:, :2] @ turn.T
        xyz += random.normal(0, change.jitter * self.grid, xyz.shape)
        return torch.from_numpy(xyz.astype(np.float32)), scale

    def _changed(self, features: torch.Tensor, scale: np.ndarray, random: np.random.Generator) -> torch.Tensor:
        change = self.augmentation
        for name, place in self.layout.items():
            if name in ("", "cones", "steps"):
                features[:, place] *= scale[2]
            elif not may_miss(name):
                features[:, place] *= 1 + random.uniform(-change.dim, change.dim)
            elif random.random() < change.drop:
                features[:, place] = 0
            elif name.endswith("_rank"):
                ranks, there = features[:, place.start : place.stop - 1], features[:, place.stop - 1 : place.stop]
                power = float(np.exp(random.normal(0, change.warp))) if change.warp else 1.0
                ranks.copy_(there * (2 * ((ranks + 1) / 2).clamp(0, 1) ** power - 1))
        return features


_FEWEST = 64  # cells of a thinned field


def _labels(cells: Cells) -> np.ndarray:
    if cells.labels is None:
        return np.full(len(cells), NOT_LEARNED)
    return cells.labels.numpy()
