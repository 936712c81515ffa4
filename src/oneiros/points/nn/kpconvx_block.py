"""One block of KPConvX: kernel attention, then an inverted bottleneck; formulas and letters are those of `kpconvx`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.points.nn.batch_norm import BatchNorm

Convolution = Callable[[Tensor, Tensor, Tensor], Tensor]  # features, weights, modulations -> features

BATCH_NORMS = ("bn_phi", "bn_htilde", "bn_hhat")
BLOCK_TENSORS = ("W", "Phi", "phi", "Psi", "psi", "Atilde", "btilde", "Ahat", "bhat")


class KPConvXBlock(nn.Module):
    """The residual branch of one block: kernel attention, then an inverted bottleneck.

    norms: batch norms of `BATCH_NORMS` to use, None where it makes its own.
    """

    def __init__(
        self,
        *,
        channels: int,
        hidden_channels: int,
        groups: int,
        num_kernel_points: int,
        bn_momentum: float,
        bn_eps: float,
        activation: Callable[[Tensor], Tensor],
        norms: Sequence[nn.Module | None],
    ) -> None:
        super().__init__()
        self.num_kernel_points, self.activation = num_kernel_points, activation
        modulations = num_kernel_points * channels // groups
        self.W = _matrix(num_kernel_points, channels)
        self.Phi, self.phi = _matrix(channels, channels), _bias(channels)
        self.Psi, self.psi = _matrix(channels, modulations), _bias(modulations)
        self.Atilde, self.btilde = _matrix(channels, hidden_channels), _bias(hidden_channels)
        self.Ahat, self.bhat = _matrix(hidden_channels, channels), _bias(channels)
        widths = (channels, hidden_channels, channels)
        self.bn_phi, self.bn_htilde, self.bn_hhat = (
            BatchNorm(channels=width, momentum=bn_momentum, eps=bn_eps) if given is None else given
            for given, width in zip(norms, widths, strict=True)
        )

    def forward(self, x: Tensor, convolve: Convolution) -> Tensor:
        """x (N, D) -> (N, D), without the residual's sum."""
        act = self.activation
        gate = act(self.bn_phi(_linear(x, self.Phi, self.phi)))
        modulations = _linear(gate, self.Psi, self.psi).sigmoid().unflatten(1, (self.num_kernel_points, -1))
        attended = convolve(x, self.W, modulations)
        hidden = act(self.bn_htilde(_linear(attended, self.Atilde, self.btilde)))
        return act(self.bn_hhat(_linear(hidden, self.Ahat, self.bhat)))


def _linear(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """x (N, in), kernel (in, out) as the reference stores it."""
    return F.linear(x, kernel.T, bias)


def _matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))


def _bias(size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size))
