"""Networks of kernel point convolutions for segmentation and classification: a pyramid of levels down, and up again.

Source: KPConvX (arXiv 2405.13194), section 4 and its released code; `official-S` and `official-L` are its networks.

Legend: N points, C channels, B clouds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from oneiros.points.nn import kernel_points
from oneiros.points.nn.blocks import (
    GateNorm,
    Neighborhood,
    PointBlock,
    Stem,
    Unary,
    pool_max,
    pool_mean,
)
from oneiros.points.nn.pyramid import Pyramid
from oneiros.records import PointBatch

CLASSIFIER_DIM, CLASSIFIER_DROPOUT = 256, 0.4  # released code


@dataclass(frozen=True)
class PointUNetConfig:
    """in_dim: features of a point. num_classes: logits. task: logits for each point, or one row for each cloud.
    grid: metres between the points of level 0, as they were subsampled; `scaling` times more at each further level.
    dims, depths, num_neighbors: width, blocks and neighbours of each level.
    shell_radii, shell_points: kernel points on shells, in units of `radius`. radius, sigma: in units of a level's grid;
        a negative sigma lets influence grow with distance, as some released weights want.
    groups: channels that share a gate, see `KPConvX`. gated_from: first level whose blocks have gates; gated_decoder:
        whether the decoder's blocks have. gate_norm: see `Gate`.
    decoder_depth: blocks after each un-pooling. expansion: hidden width of a block in units of its width; of its output
        width where `expand_output` (the released code; the paper's count of parameters follows from the former).
    drop_path: of the last encoder block; grows linearly from 0 at the first.
    """

    in_dim: int = 4
    num_classes: int = 2
    task: Literal["segmentation", "classification"] = "segmentation"
    grid: float = 0.04
    scaling: float = 2.2
    dims: tuple[int, ...] = (64, 96, 128, 192, 256)
    depths: tuple[int, ...] = (2, 2, 2, 8, 2)
    num_neighbors: tuple[int, ...] = (12, 16, 20, 20, 20)
    shell_radii: tuple[float, ...] = (0.0, 0.4, 0.8)
    shell_points: tuple[int, ...] = (1, 14, 28)
    radius: float = 2.1
    sigma: float = 2.1
    groups: int = 8
    gated_from: int = 1
    gated_decoder: bool = True
    gate_norm: GateNorm = "point"
    decoder_depth: int = 1
    expansion: int = 4
    expand_output: bool = False
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.dims) == len(self.depths) == len(self.num_neighbors) > 0:
            raise ValueError(
                f"dims {self.dims}, depths {self.depths} and num_neighbors {self.num_neighbors} need one value a level"
            )
        for name in ("dims", "depths", "num_neighbors"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; every level needs at least 1")
        if max(sum(self.depths), sum(self.shell_points), *self.num_neighbors, self.decoder_depth) > 1024:
            raise ValueError("depths, shell_points, num_neighbors and decoder_depth go up to 1024 in all")
        for name in ("in_dim", "num_classes", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("grid", "radius", "scaling"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.sigma == 0:
            raise ValueError("sigma is 0; it must be another number")
        if not 0 <= self.drop_path <= 1:
            raise ValueError(f"drop_path is {self.drop_path}; it must lie in [0, 1]")
        if self.task not in ("segmentation", "classification"):
            raise ValueError(f"task is {self.task!r}; choose segmentation or classification")
        if self.gate_norm not in ("point", "pack"):
            raise ValueError(f"gate_norm is {self.gate_norm!r}; choose point or pack")

    @property
    def num_levels(self) -> int:
        return len(self.dims)

    def grid_of(self, level: int) -> float:
        """Metres between the points of a level."""
        return self.grid * self.scaling**level

    def pyramid(self, xyz: Tensor, offsets: Tensor) -> Pyramid:
        """What a network of this config needs to know of a batch's coordinates; see `Pyramid.build`."""
        return Pyramid.build(xyz, offsets, grid=self.grid, num_neighbors=self.num_neighbors, scaling=self.scaling)


# `tiny` and `small` are for a few CPU cores: 107,000 and 88,000 points a second and core, forward and backward in
# float32, 150,000 and 136,000 in bf16, with about one point a cell. Bottlenecks twice as wide would cost `tiny` 30 %,
# gates at the finest level and in the decoder another 28 %; the decoder's blocks are 22 % of it.
PRESETS: dict[str, PointUNetConfig] = {
    "tiny": PointUNetConfig(
        grid=0.5,
        dims=(32, 64, 128),
        depths=(1, 1, 2),
        num_neighbors=(12, 12, 12),
        shell_radii=(0.0, 0.6),
        shell_points=(1, 14),
        expansion=2,
        gated_decoder=False,
    ),
    "small": PointUNetConfig(
        grid=0.5,
        dims=(32, 64, 96, 128),
        depths=(1, 2, 2, 2),
        num_neighbors=(12, 16, 16, 16),
        shell_radii=(0.0, 0.6),
        shell_points=(1, 14),
        expansion=2,
        gated_decoder=False,
    ),
    "official-S": PointUNetConfig(),
    "official-L": PointUNetConfig(depths=(3, 3, 9, 12, 3)),
}


class PointUNet(nn.Module):
    """Logits from packed points. The widest block of a level is its last: it feeds the next level and the skip."""

    def __init__(self, config: PointUNetConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        kernels = [_kernel(config, level) for level in range(config.num_levels)]
        self.stem = Stem(in_dim=config.in_dim, dim=dims[0], kernel_points=kernels[0])
        num_blocks = sum(config.depths)
        drops = iter([config.drop_path * number / max(num_blocks - 1, 1) for number in range(num_blocks)])
        self.encoder = nn.ModuleList()
        for level, depth in enumerate(config.depths):
            groups = config.groups if level >= config.gated_from else 0
            widths = [dims[level]] * depth + [dims[min(level + 1, config.num_levels - 1)]]
            self.encoder.append(
                nn.ModuleList(
                    _block(config, kernels[level], widths[number], widths[number + 1], groups, next(drops))
                    for number in range(depth)
                )
            )
        self.decoder = nn.ModuleList()
        if config.task == "segmentation":
            for level in range(config.num_levels - 1):
                self.decoder.append(_Up(config, kernels[level], dims[level + 1], dims[level]))
            self.head = nn.Sequential(Unary(dim=dims[0], out_dim=dims[0]), nn.Linear(dims[0], config.num_classes))
        else:
            self.head = nn.Sequential(
                Unary(dim=dims[-1], out_dim=CLASSIFIER_DIM, norm=False),
                nn.Dropout(CLASSIFIER_DROPOUT),
                nn.Linear(CLASSIFIER_DIM, config.num_classes),
            )

    def forward(self, batch: PointBatch, pyramid: Pyramid | None = None) -> Tensor:
        """Logits (N, num_classes) in the order of the points, or (B, num_classes) of a classifier.

        pyramid: `config.pyramid(batch.xyz, batch.offsets)`, built here where it is not given.
        Raises ValueError for features of another width than the config's, and for a pyramid of another batch.
        """
        if batch.features.ndim != 2 or batch.features.shape[1] != self.config.in_dim:
            raise ValueError(
                f"features are {tuple(batch.features.shape)}; this network takes (N, {self.config.in_dim})"
            )
        pyramid = pyramid or self.config.pyramid(batch.xyz, batch.offsets)
        self._check(pyramid, batch)
        places = [
            Neighborhood(level, self.config.sigma * self.config.grid_of(number))
            for number, level in enumerate(pyramid.levels)
        ]
        x, skips = self._encode(batch.features, pyramid, places)
        if self.config.task == "classification":
            return self.head(pool_mean(x, places[-1].clouds, places[-1].num_clouds))
        for level in reversed(range(self.config.num_levels - 1)):
            x = self.decoder[level](x, skips[level], pyramid.levels[level].parents, places[level])
        return self.head(x)

    def _encode(self, x: Tensor, pyramid: Pyramid, places: list[Neighborhood]) -> tuple[Tensor, list[Tensor]]:
        """Features of the coarsest level, and of each level before it was pooled."""
        x, skips = self.stem(x, places[0]), []
        for number, (level, around) in enumerate(zip(pyramid.levels, places, strict=True)):
            for block in self.encoder[number]:  # type: ignore[union-attr]
                x = block(x, around)
            if level.parents is not None:
                skips.append(x)
                x = pool_max(x, level.parents, len(pyramid.levels[number + 1].xyz))
        return x, skips

    def _check(self, pyramid: Pyramid, batch: PointBatch) -> None:
        if len(pyramid.levels) != self.config.num_levels or len(pyramid.levels[0].xyz) != len(batch.features):
            raise ValueError(
                f"the pyramid has {len(pyramid.levels)} levels over {len(pyramid.levels[0].xyz)} points; expected "
                f"{self.config.num_levels} over {len(batch.features)}"
            )


class _Up(nn.Module):
    """Back to a finer level: each point takes its cell's features beside its own."""

    def __init__(self, config: PointUNetConfig, kernel: Tensor, coarse_dim: int, dim: int) -> None:
        super().__init__()
        self.unary = Unary(dim=2 * coarse_dim, out_dim=dim)
        groups = config.groups if config.gated_decoder else 0
        self.blocks = nn.ModuleList(_block(config, kernel, dim, dim, groups, 0.0) for _ in range(config.decoder_depth))

    def forward(self, x: Tensor, skip: Tensor, parents: Tensor, around: Neighborhood) -> Tensor:
        x = self.unary(torch.cat([x.index_select(0, parents), skip], 1))
        for block in self.blocks:
            x = block(x, around)
        return x


def _block(
    config: PointUNetConfig, kernel: Tensor, dim: int, out_dim: int, groups: int, drop_path: float
) -> PointBlock:
    return PointBlock(
        dim=dim,
        out_dim=out_dim,
        hidden_dim=config.expansion * (out_dim if config.expand_output else dim),
        kernel_points=kernel,
        groups=groups,
        gate_norm=config.gate_norm,
        drop_path=drop_path,
    )


def _kernel(config: PointUNetConfig, level: int) -> Tensor:
    """Kernel points of a level in metres: (K, 3)."""
    return _unit_kernel(config.shell_radii, config.shell_points) * (config.radius * config.grid_of(level))


@cache
def _unit_kernel(shell_radii: tuple[float, ...], shell_points: tuple[int, ...]) -> Tensor:
    with torch.device("cpu"):  # wherever the network is being built
        return kernel_points.repulsion(shell_radii, shell_points).float()
