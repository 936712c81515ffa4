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
    mean, std = _statistics(spec, actions.device)
    return (actions.float() - mean) / std


def from_numbers(numbers: Tensor, spec: ActionSpec) -> Tensor:
    """The inverse: the largest number is the choice, keys are held above 0, values stay within the spec's bounds."""
    if spec.kind == "discrete":
        return numbers.argmax(-1)
    if spec.kind == "keys":
        return numbers > 0
    mean, std = _statistics(spec, numbers.device)
    values = numbers.float() * std + mean
    if spec.low:
        values = values.maximum(values.new_tensor(spec.low))
    return values.minimum(values.new_tensor(spec.high)) if spec.high else values


def no_action(spec: ActionSpec, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """What stands for "nothing was done yet": zeros, the first choice, no keys. (*shape,) or (*shape, A)."""
    if spec.kind == "discrete":
        return torch.zeros(shape, dtype=torch.int64, device=device)
    return torch.zeros(*shape, spec.size, dtype=torch.bool if spec.kind == "keys" else torch.float32, device=device)


def check_actions(actions: Tensor, spec: ActionSpec) -> None:
    """ValueError unless actions (B, L, ...) are of the spec's kind and size."""
    width = () if spec.kind == "discrete" else (spec.size,)
    if actions.ndim < 2 or tuple(actions.shape[2:]) != width:
        raise ValueError(f"actions have shape {tuple(actions.shape)}; {spec.kind} ones are {('B', 'L', *width)}")
    if spec.kind == "discrete" and bool(((actions < 0) | (actions >= spec.size)).any()):
        raise ValueError(f"discrete actions of this policy are 0 to {spec.size - 1}: {', '.join(spec.names)}")


def _statistics(spec: ActionSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation. What never changed in the data has no unit of its own: its deviation counts as 1."""
    mean = torch.tensor(spec.mean or (0.0,) * spec.size, device=device)
    std = torch.tensor(spec.std or (1.0,) * spec.size, device=device)
    return mean, torch.where(std > 1e-5 * (1 + mean.abs()), std, torch.ones_like(std))
