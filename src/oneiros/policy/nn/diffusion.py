"""Diffusion as in EDM (Karras et al., arXiv 2206.00364): noise levels, preconditioning, and sampling by DDIM.

The network may be anything; here is only what surrounds it. Data has standard deviation `SIGMA_DATA`.

Legend: B batch, R noise draws of a sample, ... the shape of one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.5, 0.001, 80.0
LOG_LOGISTIC_SCALE = 0.5  # of the training density; its median is SIGMA_DATA


class Preconditioning(NamedTuple):
    """denoised = skip * noisy + out * network(into * noisy, level): inputs and targets of unit variance (table 1)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    level: Tensor

    @classmethod
    def of(cls, sigma: Tensor) -> Preconditioning:
        """sigma: float32, any shape; each coefficient has the same."""
        total = sigma.square() + SIGMA_DATA**2
        root = total.sqrt()
        return cls(SIGMA_DATA**2 / total, sigma * SIGMA_DATA / root, 1 / root, sigma.log() / 4)


def training_sigmas(uniform: Tensor) -> Tensor:
    """Noise levels from numbers in [0, 1): log-logistic around SIGMA_DATA, cut to [SIGMA_MIN, SIGMA_MAX].

    The inverse of the distribution function, so evenly spread numbers give evenly spread levels.
    """
    centre = math.log(SIGMA_DATA)
    lowest, highest = (
        1 / (1 + math.exp(-(math.log(sigma) - centre) / LOG_LOGISTIC_SCALE)) for sigma in (SIGMA_MIN, SIGMA_MAX)
    )
    share = lowest + (highest - lowest) * uniform.double()
    return (centre + LOG_LOGISTIC_SCALE * share.logit()).exp().float().clamp(SIGMA_MIN, SIGMA_MAX)


def network_target(clean: Tensor, noisy: Tensor, at: Preconditioning) -> Tensor:
    """What the network should have said. Its plain squared error is EDM's weighted one (equation 8)."""
    return (clean - at.skip * noisy) / at.out


def exponential_schedule(steps: int) -> Tensor:
    """float32 (steps + 1,): SIGMA_MAX to SIGMA_MIN at a constant ratio, then 0. One step begins at SIGMA_MAX."""
    if steps < 1:
        raise ValueError(f"denoising steps are {steps}; at least 1 is needed")
    levels = torch.linspace(math.log(SIGMA_MAX), math.log(SIGMA_MIN), steps, dtype=torch.float64).exp()
    return torch.cat([levels, levels.new_zeros(1)]).float()


def ddim(denoise: Callable[[Tensor, int], Tensor], noise: Tensor, sigmas: Tensor) -> Tensor:
    """Follow the denoiser from noise to data, without further chance (DDIM, arXiv 2010.02502, in EDM's terms).

    denoise: (noisy, index of its level in sigmas) -> the expected clean sample. noise: standard normal, (B, ...).
    sigmas: falling to 0, as `exponential_schedule` gives them.
    """
    sample = noise * sigmas[0]
    ratios = (sigmas[1:] / sigmas[:-1]).tolist()
    for index, ratio in enumerate(ratios):
        sample = torch.lerp(denoise(sample, index), sample, ratio)
    return sample
