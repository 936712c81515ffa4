"""Keras's initializers, regularizers and constraints under Keras's names, on tensors that are stored as Keras stores
them: kernels (in, out), biases (n,), of which n counts as both fans. Source: the documentation of Keras 3.

Each takes the tensor first; what stands after it has Keras's defaults. Initializers fill the tensor in place,
regularizers return a scalar, constraints a tensor of the same shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

Mode = Literal["fan_in", "fan_out", "fan_avg"]

_CUT = 0.87962566103423978  # standard deviation of a unit normal that is cut off at two
_EPS = 1e-7


def find(rule: str | Mapping[str, Any]) -> Any:
    """The function of a name (`glorot_uniform`, `GlorotUniform`) or of a serialised object, a mapping with `class_name`
    and `config`; None where Keras's rules have no such name. ValueError for settings that it does not take, unless
    they are None."""
    name, given = (rule, {}) if isinstance(rule, str) else (str(rule["class_name"]), rule.get("config") or {})
    config = {key: value for key, value in given.items() if value is not None}
    function = _RULES.get(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    if function is None or not config:
        return function
    known = (function.__kwdefaults__ or {}).keys()
    if unknown := sorted(config.keys() - known):
        raise ValueError(f"{name} takes no {unknown[0]}; it takes {', '.join(known) or 'nothing'}")
    return partial(function, **config)


# -- initializers --------------------------------------------------------------------------------------------------


def zeros(tensor: Tensor) -> Tensor:
    return tensor.zero_()


def ones(tensor: Tensor) -> Tensor:
    return tensor.fill_(1)


def constant(tensor: Tensor, *, value: float = 0.0) -> Tensor:
    return tensor.fill_(value)


def random_uniform(tensor: Tensor, *, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> Tensor:
    return tensor.uniform_(minval, maxval, generator=_generator(seed))


def random_normal(tensor: Tensor, *, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> Tensor:
    return tensor.normal_(mean, stddev, generator=_generator(seed))


def truncated_normal(tensor: Tensor, *, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> Tensor:
    low, high = mean - 2 * stddev, mean + 2 * stddev
    return torch.nn.init.trunc_normal_(tensor, mean, stddev, low, high, generator=_generator(seed))


def variance_scaling(
    tensor: Tensor,
    *,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: str = "truncated_normal",
    seed: Any = None,
) -> Tensor:
    """Numbers of variance scale / fan. ValueError for a tensor of more than two dimensions."""
    if not 1 <= tensor.ndim <= 2:
        raise ValueError(f"the fans of a tensor of {tensor.ndim} dimensions are not known")
    fan_in, fan_out = tensor.shape[0], tensor.shape[-1]
    variance = scale / max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode])
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)
        return random_uniform(tensor, minval=-bound, maxval=bound, seed=seed)
    if distribution == "untruncated_normal":
        return random_normal(tensor, stddev=math.sqrt(variance), seed=seed)
    return truncated_normal(tensor, stddev=math.sqrt(variance) / _CUT, seed=seed)


def glorot_uniform(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, mode="fan_avg", distribution="uniform", seed=seed)


def glorot_normal(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, mode="fan_avg", seed=seed)


def he_uniform(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, scale=2.0, distribution="uniform", seed=seed)


def he_normal(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, scale=2.0, seed=seed)


def lecun_uniform(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, distribution="uniform", seed=seed)


def lecun_normal(tensor: Tensor, *, seed: Any = None) -> Tensor:
    return variance_scaling(tensor, seed=seed)


def orthogonal(tensor: Tensor, *, gain: float = 1.0, seed: Any = None) -> Tensor:
    """ValueError for a vector."""
    return torch.nn.init.orthogonal_(tensor, gain, generator=_generator(seed))


def _generator(seed: Any) -> torch.Generator | None:
    """torch's own where no number is given: Keras's generators are not rebuilt."""
    return torch.Generator().manual_seed(seed) if isinstance(seed, int) else None


# -- regularizers --------------------------------------------------------------------------------------------------


def l1(tensor: Tensor, *, l1: float = 0.01) -> Tensor:
    return l1 * tensor.abs().sum()


def l2(tensor: Tensor, *, l2: float = 0.01) -> Tensor:
    return l2 * tensor.square().sum()


def l1_l2(tensor: Tensor, *, l1: float = 0.01, l2: float = 0.01) -> Tensor:
    return l1 * tensor.abs().sum() + l2 * tensor.square().sum()


# -- constraints ---------------------------------------------------------------------------------------------------


def non_neg(tensor: Tensor) -> Tensor:
    return tensor.clamp_min(0)


def unit_norm(tensor: Tensor, *, axis: int = 0) -> Tensor:
    return tensor / (_EPS + tensor.norm(dim=axis, keepdim=True))


def max_norm(tensor: Tensor, *, max_value: float = 2.0, axis: int = 0) -> Tensor:
    norm = tensor.norm(dim=axis, keepdim=True)
    return tensor * norm.clamp(0, max_value) / (_EPS + norm)


def min_max_norm(
    tensor: Tensor, *, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int = 0
) -> Tensor:
    norm = tensor.norm(dim=axis, keepdim=True)
    return tensor * (rate * norm.clamp(min_value, max_value) + (1 - rate) * norm) / (_EPS + norm)


def linear(tensor: Tensor) -> Tensor:
    """The activation that does nothing."""
    return tensor


_INITIALIZERS = (zeros, ones, constant, random_uniform, random_normal, truncated_normal, variance_scaling, orthogonal)
_SCALED = (glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, lecun_normal)
_OTHERS = (l1, l2, l1_l2, non_neg, unit_norm, max_norm, min_max_norm)
_RULES: dict[str, Any] = {rule.__name__: rule for rule in (*_INITIALIZERS, *_SCALED, *_OTHERS)}
