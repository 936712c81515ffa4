"""Actions of every kind as numbers that a network can denoise or regress, and back.

Continuous actions are standardised; discrete ones are one-hot and keys multi-hot, in -1 and 1.

Legend: A names of the action spec.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from oneiros.records import ActionSpec


def to_numbers(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Actions int64 (...), bool (..., A) or float (..., A), in the environment's units -> float32 (..., A)."""
    if spec.kind == "discrete":
        return F.one_hot(actions, spec.size).float() * 2 - 1
    if spec.kind == "keys":
        return actions.float() * 2 - 1
    return spec.standardise(actions.float())


def from_numbers(numbers: Tensor, spec: ActionSpec) -> Tensor:
    """The inverse: the largest number is the choice, keys are held above 0, values stay within the spec's bounds."""
    if spec.kind == "discrete":
        return numbers.argmax(-1)
    if spec.kind == "keys":
        return numbers > 0
    return spec.nearest(spec.unstandardise(numbers.float()))


def no_action(spec: ActionSpec, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """What stands for "nothing was done yet": zeros, the first choice, no keys. (*shape,) or (*shape, A)."""
    dtype = {"discrete": torch.int64, "keys": torch.bool, "continuous": torch.float32}[spec.kind]
    return torch.zeros(*shape, *spec.shape(), dtype=dtype, device=device)
