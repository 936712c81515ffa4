"""Which implementation of an operation runs."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch


def choose(implementation: str, device: torch.device) -> str:
    """`reference` or `numba`. `auto` takes numba on the CPU where installed; ONEIROS_KERNELS=reference forbids it.

    ValueError for another name, or numba on another device; ImportError where numba is asked for but missing.
    """
    if implementation == "auto":
        usable = device.type == "cpu" and os.environ.get("ONEIROS_KERNELS") != "reference"
        return "numba" if usable and find_spec("numba") else "reference"
    if implementation not in ("reference", "numba"):
        raise ValueError(f"implementation is {implementation!r}; choose auto, reference or numba")
    if implementation == "numba" and device.type != "cpu":
        raise ValueError(f"implementation numba runs on the CPU, the points are on {device}")
    return implementation
