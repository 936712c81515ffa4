"""The blocks of a point network, on packed points: depthwise kernel point convolutions with and without a gate.

Source: KPConvX (arXiv 2405.13194), sections 3 and 4, and its released code. KPConvD is the convolution without the
gate, KPConvX the one with it.

Legend: N points, H neighbours, C channels, K kernel points, G groups, B clouds.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from oneiros.ops.kernel_point_conv import Geometry, kernel_point_conv, kernel_point_geometry
from oneiros.points.nn.pyramid import PyramidLevel, cloud_numbers

NEGATIVE_SLOPE = 0.1
NORM_EPS = 1e-5

GateNorm = Literal["point", "pack"]


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE)


class PackNorm(nn.BatchNorm1d):
    """Batch norm over all points of a pack. A single point has no spread: it takes the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        if len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Neighborhood:
    """One level of a pyramid as its convolutions see it. Kernels that lie alike share one geometry."""

    def __init__(self, level: PyramidLevel, sigma: float) -> None:
        self.xyz, self.neighbors, self.sigma = level.xyz, level.neighbors, sigma
        self.clouds = cloud_numbers(level.offsets)
        self.num_clouds = len(level.offsets) - 1
        self._kernel_points: Tensor | None = None
        self._geometry: Geometry | None = None

    def geometry(self, kernel_points: Tensor) -> Geometry:
        """Each neighbour's nearest kernel point and its influence (N, H)."""
        if self._geometry is None or not torch.equal(kernel_points, self._kernel_points):  # type: ignore[arg-type]
            self._geometry = kernel_point_geometry(
                self.xyz, self.xyz, self.neighbors, kernel_points, self.sigma, influence="linear"
            )
            self._kernel_points = kernel_points
        return self._geometry

    def convolve(self, x: Tensor, kernel_points: Tensor, weights: Tensor, modulations: Tensor | None) -> Tensor:
        """x (N, C), weights (K, C), modulations (N, K, C / G) or None -> (N, C)."""
        return kernel_point_conv(
            self.xyz,
            self.xyz,
            self.neighbors,
            kernel_points,
            self.sigma,
            weights,
            modulations,
            x,
            geometry=self.geometry(kernel_points),
        )


class Gate(nn.Module):
    """Modulations of the kernel's weights from the features of the centre: (N, C) -> (N, K, C / G) in (0, 1).

    norm: `point` normalises the K * C / G numbers of each point, so that a point's result is its own; `pack` those of
    each kernel point over all points of the pack, in evaluation too, as the released networks do: results then depend
    on what else is in the pack.
    """

    def __init__(self, *, dim: int, num_kernel_points: int, groups: int, norm: GateNorm) -> None:
        super().__init__()
        if groups < 1 or dim % groups:
            raise ValueError(f"groups is {groups}; it must divide the width, {dim}")
        self.shape = (num_kernel_points, dim // groups)
        self.norm = norm
        width = num_kernel_points * dim // groups
        self.reduce = nn.Linear(dim, dim)
        self.expand = nn.Linear(dim, width, bias=False)
        self.gain = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.reduce.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.expand(activate(self.reduce(x)))
        if self.norm == "point":
            logits = F.layer_norm(logits, logits.shape[1:], self.gain, self.shift, NORM_EPS)
        elif len(logits):  # torch refuses to normalise nothing
            logits = F.group_norm(logits.T[None], self.shape[0], self.gain, self.shift, NORM_EPS)[0].T
        return logits.sigmoid().unflatten(1, self.shape)


class DepthwiseConv(nn.Module):
    """KPConvX, or KPConvD where `groups` is 0: one weight for each kernel point and channel."""

    def __init__(self, *, dim: int, kernel_points: Tensor, groups: int, gate_norm: GateNorm) -> None:
        super().__init__()
        num_kernel_points = len(kernel_points)
        self.register_buffer("kernel_points", kernel_points.clone())
        self.kernel_points: Tensor
        self.weights = nn.Parameter(torch.empty(num_kernel_points, dim))
        nn.init.kaiming_uniform_(self.weights, a=math.sqrt(5))
        self.gate = None
        if groups:
            self.gate = Gate(dim=dim, num_kernel_points=num_kernel_points, groups=groups, norm=gate_norm)

    def forward(self, x: Tensor, around: Neighborhood) -> Tensor:
        modulations = None if self.gate is None else self.gate(x)
        return around.convolve(x, self.kernel_points, self.weights, modulations)


class Stem(nn.Module):
    """A rigid kernel point convolution (arXiv 1904.08889, nearest kernel point) from inputs to features, norm, act."""

    def __init__(self, *, in_dim: int, dim: int, kernel_points: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel_points", kernel_points.clone())
        self.kernel_points: Tensor
        self.weights = nn.Parameter(torch.empty(len(kernel_points), in_dim, dim))
        nn.init.normal_(self.weights, std=(in_dim * len(kernel_points)) ** -0.5)
        self.norm = PackNorm(dim)

    def forward(self, x: Tensor, around: Neighborhood) -> Tensor:
        """x (N, C_in) -> (N, C)."""
        return activate(self.norm(self._collect(x, around) @ self.weights.flatten(0, 1)))

    def _collect(self, x: Tensor, around: Neighborhood) -> Tensor:
        """The inputs around each point, summed by nearest kernel point: (N, K * C_in)."""
        geometry, num_kernel_points = around.geometry(self.kernel_points), len(self.kernel_points)
        inputs = F.pad(x, (0, 0, 0, 1))[around.neighbors] * geometry.influence[..., None].to(x.dtype)
        rows = torch.arange(len(x), device=x.device)[:, None] * num_kernel_points + geometry.nearest.long().clamp_min(0)
        sums = x.new_zeros(len(x) * num_kernel_points, x.shape[1])
        return sums.index_add(0, rows.flatten(), inputs.flatten(0, 1)).view(len(x), num_kernel_points * x.shape[1])


class PointBlock(nn.Module):
    """Depthwise convolution, then an inverted bottleneck, around a shortcut; activated after the sum.

    drop_path: how often, in training, a whole cloud skips the block; the others' residual is scaled by 1 / (1 - p).
    """

    def __init__(
        self,
        *,
        dim: int,
        out_dim: int,
        hidden_dim: int,
        kernel_points: Tensor,
        groups: int,
        gate_norm: GateNorm,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.conv = DepthwiseConv(dim=dim, kernel_points=kernel_points, groups=groups, gate_norm=gate_norm)
        self.conv_norm = PackNorm(dim)
        self.expand = nn.Linear(dim, hidden_dim, bias=False)
        self.expand_norm = PackNorm(hidden_dim)
        self.contract = nn.Linear(hidden_dim, out_dim, bias=False)
        self.contract_norm = PackNorm(out_dim)
        self.shortcut = None
        if dim != out_dim:
            self.shortcut = nn.Sequential(nn.Linear(dim, out_dim, bias=False), PackNorm(out_dim))

    def forward(self, x: Tensor, around: Neighborhood) -> Tensor:
        """x (N, dim) -> (N, out_dim)."""
        residual = activate(self.conv_norm(self.conv(x, around)))
        residual = activate(self.expand_norm(self.expand(residual)))
        residual = self.contract_norm(self.contract(residual))
        if self.training and self.drop_path > 0:
            residual = residual * self._keep(around, residual)
        return activate(residual + (x if self.shortcut is None else self.shortcut(x)))

    def _keep(self, around: Neighborhood, like: Tensor) -> Tensor:
        kept = torch.rand(around.num_clouds, 1, device=like.device) >= self.drop_path
        return (kept / max(1 - self.drop_path, 1e-6)).to(like.dtype)[around.clouds]


class Unary(nn.Module):
    """Linear, norm, act. norm: False adds a bias instead."""

    def __init__(self, *, dim: int, out_dim: int, norm: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, out_dim, bias=not norm)
        self.norm = PackNorm(out_dim) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return activate(x if self.norm is None else self.norm(x))


def pool_max(x: Tensor, parents: Tensor, num_parents: int) -> Tensor:
    """The largest feature in each cell: (N, C), parents (N,) -> (num_parents, C). Every parent has a child.

    Equal ones share the gradient, as in torch's own reduction, whose backward was measured 3x to 5x slower on CPUs.
    """
    return _MaxPool.apply(x, parents, num_parents)  # type: ignore[return-value]


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, parents: Tensor, num_parents: int) -> Tensor:
        rows = parents[:, None].expand_as(x)
        largest = x.new_empty(num_parents, x.shape[1]).scatter_reduce(0, rows, x, "amax", include_self=False)
        ctx.save_for_backward(x, parents, largest)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        x, parents, largest = ctx.saved_tensors
        winners = (x == largest.index_select(0, parents)).to(grad.dtype)
        shares = grad / torch.zeros_like(grad).index_add(0, parents, winners)
        return winners.mul_(shares.index_select(0, parents)), None, None


def pool_mean(x: Tensor, clouds: Tensor, num_clouds: int) -> Tensor:
    """The mean feature of each cloud: (N, C), clouds (N,) -> (num_clouds, C); 0 for an empty one."""
    sums = x.new_zeros(num_clouds, x.shape[1]).index_add(0, clouds, x)
    return sums / torch.bincount(clouds, minlength=num_clouds).clamp_min(1)[:, None]
