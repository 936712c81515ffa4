"""What training does to a clip's actions and codes so that a world keeps its footing in long dreams.

Legend: B batch, T frames, N codes per frame, A names of the action spec, k actions of the env per model step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oneiros.nn.per_sample import PerSample
from oneiros.records import ActionSpec
from oneiros.world.nn.codebooks import code_of


def noisy_actions(actions: Tensor, spec: ActionSpec, scale: float, random: PerSample) -> Tensor:
    """Actions (B, T-1, ...); continuous ones with Gaussian noise of `scale` standard deviations of their own."""
    if spec.kind != "continuous" or scale == 0:
        return actions
    noise = random.normal(actions[0].numel()).view_as(actions) * scale
    return spec.unstandardise(spec.standardise(actions) + noise.to(actions.dtype))


def corrupted_codes(codes: Tensor, fraction: float, size: int, levels: int, random: PerSample) -> Tensor:
    """Codes int64 (B, T, N) of `levels` digits below `size`; a share of them, drawn for each clip and up to `fraction`,
    replaced by random ones."""
    if fraction == 0:
        return codes
    rate = fraction * random.uniform(1)
    hit = random.uniform(codes[0].numel()) < rate
    other = code_of([(random.uniform(codes[0].numel()) * size).long() for _ in range(levels)], size)
    return torch.where(hit.view_as(codes), other.view_as(codes), codes)
