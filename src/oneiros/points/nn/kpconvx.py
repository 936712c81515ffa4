"""KPConvX on receptive fields: kernel point convolution whose weights each point modulates by kernel attention.

The operator is that of KPConvX (arXiv 2405.13194); the layer around it (dense receptive fields, a normalised gate, an
inverted bottleneck, the residual) is that of the VL3D framework, whose names the tensors keep. One block, for a point i
with features f_i, neighbours j, and k the kernel point nearest to x_j - x_i:

    modulations   a_i = sigmoid(act(BN(f_i Phi + phi)) Psi + psi), a row for each kernel point
    convolution   g_i = sum over j of max(0, 1 - |x_j - x_i - Q_k| / sigma) * a_ik * W_k * f_j
    bottleneck    f_i + act(BN(act(BN(g_i Atilde + btilde)) Ahat + bhat))

Legend: B receptive fields, R points in each, N = B * R points packed, k neighbours, n_x dimensions of space,
D channels, m kernel points, G channels that share a modulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from oneiros.ops.kernel_point_conv import kernel_point_conv, kernel_point_geometry
from oneiros.ops.packed import all_finite, cloud_offsets, extremes
from oneiros.points.nn import keras_config, tensor_rules
from oneiros.points.nn import kernel_points as shells
from oneiros.points.nn.kpconvx_block import BATCH_NORMS, BLOCK_TENSORS, Convolution, KPConvXBlock
from oneiros.points.nn.projection import Projected
from oneiros.points.nn.tensor_rules import Rule, Rules

TENSORS = ("Q", *BLOCK_TENSORS)
Norms = nn.Module | Sequence[nn.Module]


class KPConvX(Projected):
    """Blocks of kernel attention over receptive fields; features keep their width.

    channels: D. blocks: how many, all with one set of kernel points. hidden_channels: width between up and down.
    groups: G, consecutive channels that share a modulation; divides D.
    sigma: metres from a kernel point at which its influence ends.
    shell_radii, shell_points: shells of kernel points (`kernel_points.fibonacci`), unless `kernel_points` (m, n_x) are
        given, which they must be where `point_dim` is not 3.
    deformable: the kernel points are learned. drop_path: probability that a block leaves a receptive field as it is.
    bn_momentum: share of the old in the running statistics. activation: None is LeakyReLU(negative_slope).
    bn_phi, bn_htilde, bn_hhat: batch norms to use instead, one for each block; of a single block, the module itself.
    initializers, regularizers, constraints: a rule for all tensors of weights, or a mapping from names in `TENSORS`. A
        rule is a callable, its name or one of Keras's (`keras_rules`). Q has only a rule of its own; a common
        initializer that fails on vectors leaves biases at 0. Regularizers: see `regularization`. Constraints project
        after every step of an optimiser, and not before the first.

    Raises ValueError for options that do not fit, naming them and their values.
    """

    def __init__(
        self,
        *,
        channels: int,
        blocks: int = 1,
        hidden_channels: int = 384,
        groups: int = 8,
        sigma: float = 1.0,
        shell_radii: Sequence[float] = (0, 0.5, 1.0),
        shell_points: Sequence[int] = (1, 7, 13),
        deformable: bool = False,
        drop_path: float = 0.0,
        bn_momentum: float = 0.9,
        bn_eps: float = 1e-3,
        negative_slope: float = 0.3,
        activation: Callable[[Tensor], Tensor] | str | None = None,
        point_dim: int = 3,
        kernel_points: Any = None,
        initializers: Rules | None = None,
        regularizers: Rules | None = None,
        constraints: Rules | None = None,
        bn_phi: Norms | None = None,
        bn_htilde: Norms | None = None,
        bn_hhat: Norms | None = None,
    ) -> None:
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        for name in ("channels", "blocks", "hidden_channels", "groups", "point_dim"):
            _check_count(name, config[name])
        _check_scalars(channels, groups, sigma, drop_path, bn_momentum, bn_eps)
        points = _kernel_points(kernel_points, shell_radii, shell_points, point_dim)
        self._config = config | {
            "shell_radii": [float(radius) for radius in shell_radii],
            "shell_points": [int(count) for count in shell_points],
            "kernel_points": None if kernel_points is None else points.tolist(),
        }
        self.channels, self.point_dim, self.sigma = channels, point_dim, float(sigma)
        self.hidden_channels, self.groups, self.bn_momentum, self.bn_eps = hidden_channels, groups, bn_momentum, bn_eps
        self.shell_radii = tuple(self._config["shell_radii"])
        self.shell_points = tuple(self._config["shell_points"])
        self.num_kernel_points = len(points)
        self.deformable, self.drop_path = deformable, drop_path
        points = points.to(torch.get_default_dtype())
        if deformable:
            self.Q = nn.Parameter(points)
        else:
            self.register_buffer("Q", points)
        self.Q: Tensor
        self.blocks = self._make_blocks(_activation(activation, negative_slope))
        self._regularizers = self._rules("regularizers")
        self._constraints = self._rules("constraints")
        self._initialise(initializers)
        if self._constraints:
            self.project_after_steps()

    def _make_blocks(self, activation: Rule) -> nn.ModuleList:
        norms = [_norms(name, self._config[name], self._config["blocks"]) for name in BATCH_NORMS]
        return nn.ModuleList(
            KPConvXBlock(
                channels=self.channels,
                hidden_channels=self.hidden_channels,
                groups=self.groups,
                num_kernel_points=self.num_kernel_points,
                bn_momentum=self.bn_momentum,
                bn_eps=self.bn_eps,
                activation=activation,
                norms=each,
            )
            for each in zip(*norms, strict=True)
        )

    def _rules(self, option: str) -> dict[str, Rule]:
        """By tensor. A common rule is one for weights: kernel points have but their own."""
        return tensor_rules.by_tensor(self._config[option], TENSORS, common=BLOCK_TENSORS, option=option)

    def _tensors(self) -> Iterator[tuple[nn.Module, str]]:
        """(module, name) of every tensor that a rule may address, Q first."""
        yield self, "Q"
        for block in self.blocks:
            yield from ((block, name) for name in BLOCK_TENSORS)

    def _with_rules(self, rules: Mapping[str, Rule]) -> Iterator[tuple[Tensor, Rule]]:
        return ((getattr(module, name), rules[name]) for module, name in self._tensors() if name in rules)

    @torch.no_grad()
    def _initialise(self, initializers: Rules | None) -> None:
        rules, common = self._rules("initializers"), tensor_rules.is_common(initializers)
        if "Q" in rules and self._config["kernel_points"] is not None:
            raise ValueError("initializers has a rule for Q, but kernel_points are given; give one of both")
        for tensor, rule in self._with_rules(rules):
            try:
                rule(tensor)
            except ValueError:
                if not common or tensor.ndim > 1:
                    raise

    def constrained(self) -> Iterator[tuple[Tensor, Rule]]:
        return self._with_rules(self._constraints)

    @property
    def bn_phi(self) -> tuple[nn.Module, ...]:
        """The batch norm of each block's gate; `bn_htilde` and `bn_hhat` are those of its bottleneck."""
        return tuple(block.get_submodule("bn_phi") for block in self.blocks)

    @property
    def bn_htilde(self) -> tuple[nn.Module, ...]:
        return tuple(block.get_submodule("bn_htilde") for block in self.blocks)

    @property
    def bn_hhat(self) -> tuple[nn.Module, ...]:
        return tuple(block.get_submodule("bn_hhat") for block in self.blocks)

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(self, points: Tensor, features: Tensor, neighbors: Tensor) -> Tensor:
        """points (B, R, n_x), features (B, R, D), neighbors int64 (B, R, k) within each field -> (B, R, D).

        A neighbour of -1 or R is missing and contributes nothing. ValueError for shapes that do not match, neighbours
        out of range, and coordinates that are not finite.
        """
        self._check_dense(points, features, neighbors)
        fields, per_field = features.shape[:2]
        offsets = torch.arange(fields + 1) * per_field
        missing = (neighbors < 0) | (neighbors == per_field)
        first = offsets[:-1, None, None].to(neighbors.device)
        rows = (neighbors.long() + first).masked_fill(missing, -1)
        out = self._run(points.flatten(0, 1), features.flatten(0, 1), rows.flatten(0, 1), offsets)
        return out.unflatten(0, (fields, per_field))

    def packed(self, points: Tensor, features: Tensor, neighbors: Tensor, offsets: Tensor) -> Tensor:
        """The same for fields of different sizes: field b holds the rows from offsets[b] to offsets[b + 1].

        points (N, n_x), features (N, D), neighbors int64 (N, k) among all N rows (-1 or N = missing), offsets int64
        (B + 1,). Returns (N, D).
        """
        if points.ndim != 2 or features.ndim != 2 or neighbors.ndim != 2:
            raise ValueError(
                "points (N, n_x), features (N, D) and neighbors (N, k) are needed, got "
                f"{tuple(points.shape)}, {tuple(features.shape)} and {tuple(neighbors.shape)}"
            )
        if not len(points) == len(features) == len(neighbors):
            raise ValueError(
                f"points, features and neighbors differ in N: {len(points)}, {len(features)} and {len(neighbors)}"
            )
        self._check_values(points, features, neighbors, len(points))
        return self._run(points, features, neighbors.long(), cloud_offsets(offsets, len(points)))

    def _run(self, points: Tensor, x: Tensor, neighbors: Tensor, offsets: Tensor) -> Tensor:
        if x.numel() == 0:
            return x
        sizes = offsets.diff()
        if points.dtype != self.Q.dtype:  # rounding large coordinates would spoil their differences
            points = (points - points[_per_point(offsets[:-1], sizes, x.device)]).to(self.Q.dtype)
        convolve = self._convolution(points, neighbors)
        for block in self.blocks:
            residual = block(x, convolve)
            x = x + (residual * self._path(sizes, residual) if self.training and self.drop_path else residual)
        return x

    def _convolution(self, points: Tensor, neighbors: Tensor) -> Convolution:
        """What depends on geometry only, computed once and shared by all blocks."""
        kernel = self.Q
        geometry = None
        if len(self.blocks) > 1:
            geometry = kernel_point_geometry(points, points, neighbors, kernel, self.sigma, influence="linear")

        def convolve(features: Tensor, weights: Tensor, modulations: Tensor) -> Tensor:
            return kernel_point_conv(
                points, points, neighbors, kernel, self.sigma, weights, modulations, features, geometry=geometry
            )

        return convolve

    def _path(self, sizes: Tensor, residual: Tensor) -> Tensor:
        """Factors of the residual (N, 1): 0 for the fields that a block leaves alone; the others make up for that."""
        if self.drop_path == 1:
            return residual.new_zeros(1, 1)
        kept = (torch.rand(len(sizes), 1) >= self.drop_path) / (1 - self.drop_path)
        return _per_point(kept, sizes, residual.device).to(residual.dtype)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check_dense(self, points: Tensor, features: Tensor, neighbors: Tensor) -> None:
        if points.ndim != 3 or features.ndim != 3 or neighbors.ndim != 3:
            raise ValueError(
                "points (B, R, n_x), features (B, R, D) and neighbors (B, R, k) are needed, got "
                f"{tuple(points.shape)}, {tuple(features.shape)} and {tuple(neighbors.shape)}"
            )
        if not points.shape[:2] == features.shape[:2] == neighbors.shape[:2]:
            raise ValueError(
                f"points, features and neighbors differ in B or R: {tuple(points.shape[:2])}, "
                f"{tuple(features.shape[:2])} and {tuple(neighbors.shape[:2])}"
            )
        self._check_values(points, features, neighbors, points.shape[1])

    def _check_values(self, points: Tensor, features: Tensor, neighbors: Tensor, count: int) -> None:
        if points.shape[-1] != self.point_dim or features.shape[-1] != self.channels:
            raise ValueError(
                f"points have {points.shape[-1]} dimensions and features {features.shape[-1]} channels; "
                f"this layer takes {self.point_dim} and {self.channels}"
            )
        if neighbors.is_floating_point() or neighbors.is_complex() or neighbors.dtype == torch.bool:
            raise ValueError(f"neighbors are {neighbors.dtype}; they must be int64 indices")
        if neighbors.numel():
            low, high = extremes(neighbors)
            if low < -1 or high > count:
                raise ValueError(
                    f"neighbors run from {low} to {high}; indices lie from -1 to {count}, for {count} points"
                )
        if not all_finite(points):
            where = tuple((~points.isfinite()).nonzero()[0].tolist())
            raise ValueError(f"points{list(where)} is {points[where].item()}; coordinates must be finite")

    # -- weights and configuration ---------------------------------------------------------------------------------

    def regularization(self) -> Tensor:
        """The regularizers' sum over their tensors, a scalar to be added to the loss."""
        return sum((rule(tensor) for tensor, rule in self._with_rules(self._regularizers)), self.Q.new_zeros(()))

    @torch.no_grad()
    def load_reference_weights(self, tensors: Mapping[str, Any]) -> None:
        """Take over all weights by the reference's names, kernels stored (in, out).

        Names: Q, blocks.i.{W, Phi, phi, Psi, psi, Atilde, btilde, Ahat, bhat} and, for bn_phi, bn_htilde and bn_hhat,
        blocks.i.bn_*.{gamma, beta, mean, var}. Raises ValueError for missing and unknown names and for other shapes;
        nothing is changed then.
        """
        own = self.state_dict()
        missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        if missing or unknown:
            raise ValueError(f"weights are missing: {missing or 'none'}; unknown: {unknown or 'none'}")
        given = {name: torch.as_tensor(tensors[name]) for name in own}
        for name, tensor in own.items():
            if given[name].shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(given[name].shape)}; here it is {tuple(tensor.shape)}")
        for name, tensor in own.items():
            tensor.copy_(given[name])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values. Functions are given by name; those that cannot be imported are
        left out, with a warning."""
        config = dict(self._config)
        for option in ("initializers", "regularizers", "constraints", "activation", *BATCH_NORMS):
            config[option] = tensor_rules.to_config(config[option], option=option)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new layer as `get_config` describes it, or the Keras layer's own (`keras_config`). Functions named in it
        are imported: for configurations of your own."""
        return cls(**keras_config.options(config))

    def export_representation(
        self, folder: str | PathLike[str], prefix: str | None = None, past_weights: Any = None
    ) -> list[Path]:
        """Write what the kernel looks like; see `kernel_export.export`. Returns the paths written."""
        from oneiros.points.kernel_export import export

        weights = torch.stack([getattr(module, name) for module, name in self._tensors() if name == "W"])
        return export(Path(folder), self.Q, weights, prefix=prefix, past_weights=past_weights)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, num_kernel_points={self.num_kernel_points}, sigma={self.sigma}"


def _per_point(values: Tensor, sizes: Tensor, device: torch.device) -> Tensor:
    """values (B, ...) of fields, repeated for each of their points."""
    return values.repeat_interleave(sizes, 0).to(device)


def _norms(name: str, given: Norms | None, blocks: int) -> Sequence[nn.Module | None]:
    """A batch norm for each block, None where the block is to make its own."""
    norms = [given] if isinstance(given, nn.Module) else [None] * blocks if given is None else list(given)
    if len(norms) != blocks or len({id(norm) for norm in norms if norm is not None}) < sum(
        n is not None for n in norms
    ):
        raise ValueError(f"{name} has {len(norms)} batch norms for {blocks} blocks; each needs one of its own")
    return norms


def _activation(activation: Callable[[Tensor], Tensor] | str | None, negative_slope: float) -> Rule:
    if activation is None:
        return nn.LeakyReLU(negative_slope)
    return tensor_rules.resolve(activation, option="activation", home="torch.nn.functional")


def _kernel_points(given: Any, shell_radii: Sequence[float], shell_points: Sequence[int], point_dim: int) -> Tensor:
    """float64 (m, n_x)."""
    if given is None:
        if point_dim != 3:
            raise ValueError(f"point_dim is {point_dim}; shells of kernel points need 3, else give kernel_points")
        return shells.fibonacci(shell_radii, shell_points)
    points = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    if points.ndim != 2 or not len(points) or points.shape[1] != point_dim:
        raise ValueError(f"kernel_points are (m, {point_dim}) with m at least 1, got {tuple(points.shape)}")
    if not points.isfinite().all():
        row = int((~points.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"kernel_points[{row}] is {points[row].tolist()}; coordinates must be finite")
    return points


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or value != int(value) or value < 1:
        raise ValueError(f"{name} is {value}; it must be a whole number of at least 1")


def _check_scalars(
    channels: int, groups: int, sigma: float, drop_path: float, bn_momentum: float, bn_eps: float
) -> None:
    if channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide channels, {channels}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma is {sigma}; it must be finite and above 0 metres")
    for name, value in (("drop_path", drop_path), ("bn_momentum", bn_momentum)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1]")
    if not bn_eps > 0:
        raise ValueError(f"bn_eps is {bn_eps}; it must be above 0")
