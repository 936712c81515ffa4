"""A depth image as a few tokens: pixels become points, points look at their neighbours, tokens look at points.

Legend: B images, H x W pixels, R points taken from an image at most, N points of all images packed, F features of a
pixel (colour, for one), C channels of a point, T tokens, D their width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.ops.neighbors import knn
from oneiros.points.nn.batch_norm import BatchNorm
from oneiros.points.nn.kpconvx import KPConvX
from oneiros.records import PointBatch


def unproject(depth: Tensor, u: Tensor, v: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels at columns u and rows v, depth in metres along the optical axis, each (...) -> points (..., 3) in metres.

    x points right, y down, z ahead. intrinsics: (..., 4), fx, fy, cx, cy of a pinhole camera in pixels; pixel centres
    are whole numbers.
    """
    fx, fy, cx, cy = intrinsics.unbind(-1)
    return torch.stack(torch.broadcast_tensors((u - cx) / fx * depth, (v - cy) / fy * depth, depth), -1)


def pixel_grid(height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
    """Rows and columns, each int64, of an even grid of at most `count` pixels, as square as the image allows."""
    rows = min(height, max(1, round(math.sqrt(count * height / width))), count)
    columns = min(width, count // rows)
    rows = min(height, count // columns)
    return tuple(((2 * torch.arange(n) + 1) * size) // (2 * n) for n, size in ((rows, height), (columns, width)))  # type: ignore[return-value]


class PointEncoder(nn.Module):
    """Tokens of what a depth camera sees, for a policy. KPConvX over the points, then learned queries that read them.

    dim: D. num_tokens: T. num_points: R, pixels looked at, on an even grid. num_neighbors: nearest points of each, it
        included.
    channels, blocks, hidden_channels, groups, drop_path: of `KPConvX`. heads: of the queries; divides channels.
    radius: metres that the kernel reaches; good is two to three times the distance between neighbouring points, which
        lie depth * W / (fx * sqrt(R)) apart.
    max_depth: metres from which on depth counts as missing, for cameras that report their limit where they see nothing.
    feature_dim: F, features that come with every pixel, 3 for colour.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        num_tokens: int = 16,
        num_points: int = 1024,
        num_neighbors: int = 16,
        channels: int = 64,
        blocks: int = 2,
        hidden_channels: int = 128,
        groups: int = 8,
        heads: int = 4,
        radius: float = 0.25,
        max_depth: float = math.inf,
        feature_dim: int = 0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("num_tokens", num_tokens), ("num_points", num_points), ("num_neighbors", num_neighbors)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if channels % heads:
            raise ValueError(f"heads is {heads}, which does not divide channels, {channels}")
        if not (math.isfinite(radius) and radius > 0 and max_depth > 0):
            raise ValueError(f"radius is {radius} and max_depth {max_depth}; both are metres above 0")
        self.num_points, self.num_neighbors, self.heads = num_points, num_neighbors, heads
        self.max_depth, self.feature_dim = max_depth, feature_dim
        self.enter = nn.Linear(3 + feature_dim, channels)
        self.enter_norm = BatchNorm(channels=channels)
        self.convolution = KPConvX(
            channels=channels,
            blocks=blocks,
            hidden_channels=hidden_channels,
            groups=groups,
            sigma=radius / 2,
            shell_radii=(0, radius / 2, radius),
            drop_path=drop_path,
        )
        self.queries = nn.Parameter(torch.randn(num_tokens, channels))
        self.nothing = nn.Parameter(torch.zeros(1, channels))  # read where an image has no points
        self.norm = nn.LayerNorm(channels)
        self.read = nn.Linear(channels, 2 * channels)
        self.leave = nn.Linear(channels, dim)

    def forward(self, depth: Tensor, intrinsics: Tensor, features: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D) of depth images; arguments as in `points`."""
        return self.tokens(self.points(depth, intrinsics, features)[0])

    def points(self, depth: Tensor, intrinsics: Tensor, features: Tensor | None = None) -> tuple[PointBatch, Tensor]:
        """The points of depth images, and the pixels that they are: int64 (N,) into depth.flatten().

        depth: (B, H, W) metres; 0 or less, not finite, or `max_depth` and more is missing. intrinsics: (B, 4) or (4,),
        fx, fy, cx, cy in pixels. features: (B, F, H, W), for `feature_dim` above 0. Raises ValueError for other shapes
        and for focal lengths that are not positive.
        """
        self._check(depth, intrinsics, features)
        depth = depth if depth.dtype == torch.float64 else depth.float()
        rows, columns = (
            lines.to(depth.device) for lines in pixel_grid(depth.shape[1], depth.shape[2], self.num_points)
        )
        looked = depth[:, rows[:, None], columns]
        taken = looked.isfinite() & (looked > 0) & (looked < self.max_depth)
        image, row, column = taken.nonzero().unbind(1)
        row, column = rows[row], columns[column]
        pixels = (image * depth.shape[1] + row) * depth.shape[2] + column
        cameras = intrinsics.to(depth).expand(len(depth), 4)
        xyz = unproject(depth.flatten()[pixels], column, row, cameras[image])
        offsets = F.pad(taken.flatten(1).sum(1).cumsum(0), (1, 0))
        values = xyz.new_zeros(len(xyz), 0) if features is None else features.movedim(1, -1).flatten(0, 2)[pixels]
        return PointBatch(xyz, values.to(xyz.dtype), None, offsets), pixels

    def point_features(self, batch: PointBatch) -> Tensor:
        """What the encoder knows of every point, (N, C)."""
        x = self.enter(torch.cat([batch.xyz, batch.features], 1).to(self.enter.weight.dtype))
        if len(x) == 0:
            return x
        x = F.leaky_relu(self.enter_norm(x), 0.3)
        neighbors, _ = knn(batch.xyz.detach(), batch.xyz.detach(), self.num_neighbors, offsets=batch.offsets)
        return self.convolution.packed(batch.xyz, x, neighbors, batch.offsets)

    def tokens(self, batch: PointBatch) -> Tensor:
        """Tokens (B, T, D) of clouds of any size, none included: the queries read their points and `nothing`."""
        x, offsets = self.point_features(batch), batch.offsets
        sizes = offsets.diff()
        slots = torch.arange(int(sizes.max()) if len(sizes) else 0, device=x.device)
        filled = slots < sizes[:, None]
        padded = torch.cat([x, self.nothing.to(x.dtype)])  # the last row fills gaps
        rows = torch.where(filled, offsets[:-1, None] + slots, len(x))
        dense = torch.cat([self.nothing.to(x.dtype).expand(len(sizes), 1, -1), padded[rows]], 1)
        key, value = self.read(self.norm(dense)).unflatten(-1, (2, self.heads, -1)).movedim(-2, 1).unbind(-2)
        query = self.queries.to(key.dtype).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        mask = F.pad(filled, (1, 0), value=True)[:, None, None]
        read = F.scaled_dot_product_attention(query.expand(len(sizes), -1, -1, -1), key, value, attn_mask=mask)
        return self.leave(read.transpose(1, 2).flatten(2))

    def _check(self, depth: Tensor, intrinsics: Tensor, features: Tensor | None) -> None:
        if depth.ndim != 3 or not depth.is_floating_point() or 0 in depth.shape[1:]:
            raise ValueError(f"depth is floating metres (B, H, W), got {depth.dtype} {tuple(depth.shape)}")
        if intrinsics.shape not in ((4,), (len(depth), 4)):
            raise ValueError(f"intrinsics are (4,) or ({len(depth)}, 4), got {tuple(intrinsics.shape)}")
        if not (intrinsics.isfinite().all() and (intrinsics[..., :2] > 0).all()):
            raise ValueError(
                f"intrinsics are {intrinsics.tolist()}; fx and fy must be above 0, and all finite (pixels)"
            )
        needed = (len(depth), self.feature_dim, *depth.shape[1:])
        given = None if features is None else tuple(features.shape)
        if given != (needed if self.feature_dim else None):
            raise ValueError(f"features are {given}; this encoder takes {needed if self.feature_dim else None}")
