"""How sure a figure is: clips of one episode resemble one another, and a ratio of sums is no mean of ratios.

Legend: n clips, H horizons. Everything here is (n, H): a figure is the mean over clips, its error that of the mean.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def clustered_error(values: Tensor, clusters: list[int]) -> list[float] | None:
    """Standard error of the mean of values (n, H) when clips of one episode resemble each other: a value per horizon.

    The cluster-robust estimate (Liang and Zeger 1986) with G / (G - 1); None for a single cluster.
    """
    labels = torch.tensor(clusters).unique(return_inverse=True)[1]
    count = int(labels.max()) + 1
    if count < 2:
        return None
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, labels, values - values.mean(0))
    return ((count / (count - 1) * sums.square().sum(0)).sqrt() / len(values)).tolist()


def ratio_of_sums(above: Tensor, below: Tensor) -> Tensor:
    """Values (n, H) whose mean is sum(above) / sum(below), and whose spread is that of this ratio to first order.

    A mean of ratios would be ruled by the clips with next to nothing below. NaN at horizons with nothing below at all.
    """
    above, below = above.double(), below.double()
    mean = below.mean(0)
    ratio = above.mean(0) / mean
    return ratio + (above - ratio * below) / mean


def decibels(errors: Tensor, *, cap: float) -> Tensor:
    """PSNR in dB of mean squared errors (n, H) of `ratio_of_sums`, at most `cap`; its mean and spread likewise."""
    mean = errors.mean(0)
    value = 10 * torch.log10(255**2 / mean)
    spread = -10 / math.log(10) * (errors - mean) / mean
    return torch.where(value > cap, torch.full_like(errors, cap), value + spread)
