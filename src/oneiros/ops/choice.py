"""Which implementation of an operation runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

import torch

FORCED = "ONEIROS_KERNELS"  # environment variable: what `auto` means, for example `reference`
COMPILED = {"cpu": "numba", "cuda": "triton"}  # for each device, which compiles its kernels


def choose(implementation: str, device: torch.device, compiled: Sequence[str] = ("numba",)) -> str:
    """`reference`, or the name of a compiled implementation.

    compiled: those that the operation has. `auto` takes what ONEIROS_KERNELS names, if the operation has it, else the
    device's own where it is installed. Raises ValueError for an unknown name, and for a device that the named one does
    not run on.
    """
    if implementation == "auto":
        forced = os.environ.get(FORCED, "auto")
        if forced not in COMPILED.values() or forced in compiled:
            implementation = forced
    if implementation == "auto":
        own = COMPILED.get(device.type, "reference")
        return own if own in compiled and find_spec(own) else "reference"
    if implementation not in ("reference", *compiled):
        others = ", ".join(("auto", "reference", *compiled[:-1]))
        raise ValueError(f"implementation is {implementation!r}; choose {others} or {compiled[-1]}")
    if implementation == "numba" and device.type != "cpu":
        raise ValueError(f"implementation numba runs on the CPU; the tensors are on {device}")
    if implementation == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("implementation triton runs on a GPU; the tensors are on the CPU")
    return implementation
