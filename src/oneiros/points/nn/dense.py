"""A network of dense receptive fields: each is brought to one size by farthest points, then KPConvX on ever fewer of
them and up again, as the VL3D framework builds its autoencoders.

Legend: N points packed, B fields, R points of a field at a level, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.ops.farthest_points import farthest_points
from oneiros.ops.neighbors import knn
from oneiros.ops.packed import cloud_offsets
from oneiros.points.nn.batch_norm import BatchNorm
from oneiros.points.nn.kpconvx import KPConvX
from oneiros.records import PointBatch

_SLOPE = 0.3
_BY_LEVEL = ("num_points", "dims", "blocks", "num_neighbors", "num_pooled")
_START = 0  # farthest points begin with the first of a field


@dataclass(frozen=True)
class DensePointNetConfig:
    """in_dim: features of a point. num_classes: logits. grid: metres between the points of a field.
    num_points: R, points of a field at each level, fewer at each; the points of a level are among those of the last.
    dims, blocks, num_neighbors: width, blocks of its KPConvX and neighbours of each level.
    num_pooled: at each level, the points of the one before whose features a point takes the largest of; at the first
        level there is nothing to pool.
    shell_radii, sigma: in units of a level's spacing, which is grid * sqrt(num_points[0] / R). shell_points, groups,
    deformable, drop_path, bn_momentum: as in `KPConvX`. expansion: its hidden width in units of its width.
    initializers, regularizers, constraints: a rule for all weights of its KPConvX, by name (`keras_rules`).
    """

    in_dim: int = 4
    num_classes: int = 2
    grid: float = 0.5
    num_points: tuple[int, ...] = (2048, 512, 128)
    dims: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 1, 2)
    num_neighbors: tuple[int, ...] = (16, 16, 16)
    num_pooled: tuple[int, ...] = (1, 8, 8)
    shell_radii: tuple[float, ...] = (0.0, 1.25)
    shell_points: tuple[int, ...] = (1, 14)
    sigma: float = 2.0
    groups: int = 8
    expansion: int = 2
    deformable: bool = False
    drop_path: float = 0.0
    bn_momentum: float = 0.9
    initializers: str | None = None
    regularizers: str | None = None
    constraints: str | None = None

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in _BY_LEVEL}
        if len({len(size) for size in sizes.values()}) > 1 or not self.num_points:
            told = ", ".join(f"{name} {list(size)}" for name, size in sizes.items())
            raise ValueError(f"{told}: each needs one value a level")
        for name in ("in_dim", "num_classes", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if any(fine < coarse for fine, coarse in pairwise(self.num_points)) or min(self.num_points) < 1:
            raise ValueError(f"num_points is {list(self.num_points)}; no level has more points than the one before")
        for name in _BY_LEVEL:
            if min(sizes[name]) < 1:
                raise ValueError(f"{name} is {list(sizes[name])}; every level needs at least 1")
        if max(*self.num_points, *self.dims, sum(self.blocks) * 64, sum(self.shell_points) * 64) > 2**16:
            raise ValueError("num_points and dims go up to 65,536, blocks and shell_points up to 1,024 in all")
        if not self.grid > 0:
            raise ValueError(f"grid is {self.grid}; it must be above 0")

    def spacing(self, level: int) -> float:
        """Metres between the points of a level, of a field that lies like a surface."""
        return self.grid * math.sqrt(self.num_points[0] / self.num_points[level])


DENSE = DensePointNetConfig()


class DensePointNet(nn.Module):
    """Logits of packed points, from receptive fields of equal size."""

    def __init__(self, config: DensePointNetConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.enter = _Shared(config.in_dim, dims[0])
        self.layers = nn.ModuleList(_layer(config, level) for level in range(len(dims)))
        self.down = nn.ModuleList(_Shared(fine, coarse) for fine, coarse in pairwise(dims))
        self.up = nn.ModuleList(_Shared(fine + coarse, fine) for fine, coarse in pairwise(dims))
        self.head = nn.Linear(dims[0], config.num_classes)

    def forward(self, batch: PointBatch) -> Tensor:
        """Logits (N, num_classes). A field of more points than the first level's takes them from the nearest of those
        that are looked at; in one of fewer, points stand several times. ValueError for features of another width."""
        if batch.features.ndim != 2 or batch.features.shape[1] != self.config.in_dim:
            raise ValueError(
                f"features are {tuple(batch.features.shape)}; this network takes (N, {self.config.in_dim})"
            )
        if not len(batch.xyz):
            return batch.features.new_zeros(0, self.config.num_classes)
        rows = _equal_fields(batch, self.config.num_points[0])  # (B, R)
        levels = [batch.xyz[rows[:, :count]] for count in self.config.num_points]
        x, skips = self.enter(batch.features[rows]), []
        for number, layer in enumerate(self.layers):
            if number:
                skips.append(x)
                gathered = _gather(x, _nearest(levels[number - 1], levels[number], self.config.num_pooled[number]))
                x = self.down[number - 1](gathered.amax(2))
            x = layer(levels[number], x, _nearest(levels[number], levels[number], self.config.num_neighbors[number]))
        for number in reversed(range(len(skips))):
            coarse = _gather(x, _nearest(levels[number + 1], levels[number], 1))[:, :, 0]
            x = self.up[number](torch.cat([skips[number], coarse], 2))
        return self._to_all(self.head(x), rows, batch)

    def _to_all(self, logits: Tensor, rows: Tensor, batch: PointBatch) -> Tensor:
        """Of each point, those of the nearest that was looked at."""
        chosen = batch.xyz[rows].flatten(0, 1)
        ends = torch.arange(len(rows) + 1) * rows.shape[1]
        full = batch.offsets.cpu().diff() > 0
        places = cloud_offsets(batch.offsets.cpu()[torch.cat([torch.ones(1, dtype=torch.bool), full])], len(batch.xyz))
        nearest, _ = knn(chosen, batch.xyz, 1, offsets=ends, query_offsets=places)
        return logits.flatten(0, 1)[nearest[:, 0].to(logits.device)]

    def regularization(self) -> Tensor:
        """What the regularizers of all KPConvX layers come to, to be added to the loss."""
        return torch.stack([layer.regularization() for layer in self.kernels()]).sum()

    def kernels(self) -> list[KPConvX]:
        """The KPConvX layer of each level."""
        return [layer for layer in self.layers if isinstance(layer, KPConvX)]

    def export_representations(self, folder: Path) -> None:
        """Write each level's kernel into `folder`, beside the change since the newest of the folders next to it; see
        `KPConvX.export_representation`. Needs matplotlib."""
        past = sorted(path for path in folder.parent.glob("step_*") if path.name < folder.name)
        for level, layer in enumerate(self.kernels()):
            prefix = f"level_{level}_"
            weights = past[-1] / f"{prefix}W.npy" if past else None
            before = np.load(weights, allow_pickle=False) if weights and weights.is_file() else None
            layer.export_representation(folder, prefix=prefix, past_weights=before)


def _layer(config: DensePointNetConfig, level: int) -> KPConvX:
    spacing, dim = config.spacing(level), config.dims[level]
    return KPConvX(
        channels=dim,
        blocks=config.blocks[level],
        hidden_channels=config.expansion * dim,
        groups=config.groups,
        sigma=config.sigma * spacing,
        shell_radii=tuple(radius * spacing for radius in config.shell_radii),
        shell_points=config.shell_points,
        deformable=config.deformable,
        drop_path=config.drop_path,
        bn_momentum=config.bn_momentum,
        initializers=config.initializers,
        regularizers=config.regularizers,
        constraints=config.constraints,
    )


class _Shared(nn.Module):
    """Linear, norm, activation, the same for every point: (B, R, C_in) -> (B, R, C)."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(in_dim, dim), BatchNorm(channels=dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.linear(x).flatten(0, 1)), _SLOPE).unflatten(0, x.shape[:2])


def _equal_fields(batch: PointBatch, count: int) -> Tensor:
    """Rows of `count` points of each field that has any, each the farthest from those before it: int64 (B, count)."""
    order = farthest_points(batch.xyz, count, offsets=batch.offsets, start=_START)
    sizes = batch.offsets.diff().cpu().clamp_max(count)
    parts = order.cpu().split(sizes[sizes > 0].tolist())
    return torch.stack([part[torch.arange(count) % len(part)] for part in parts]).to(batch.xyz.device)


def _nearest(points: Tensor, queries: Tensor, count: int) -> Tensor:
    """The nearest of `points` (B, R, 3) for each of `queries` (B, Q, 3): int64 (B, Q, count), R for none."""
    fields, size, asked = len(points), points.shape[1], queries.shape[1]
    offsets, query_offsets = torch.arange(fields + 1) * size, torch.arange(fields + 1) * asked
    found, _ = knn(points.flatten(0, 1), queries.flatten(0, 1), count, offsets=offsets, query_offsets=query_offsets)
    first = offsets[:-1, None, None].to(found.device)
    missing = found.unflatten(0, (fields, asked)) == fields * size
    return (found.unflatten(0, (fields, asked)) - first).masked_fill(missing, size)


def _gather(x: Tensor, rows: Tensor) -> Tensor:
    """x (B, R, C) at rows (B, Q, k), of which R is missing and takes what the first of its k has: (B, Q, k, C)."""
    rows = torch.where(rows == x.shape[1], rows[..., :1], rows)
    fields = torch.arange(len(x), device=x.device)[:, None, None]
    return x[fields, rows]
