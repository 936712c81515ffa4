"""Where a run computes: one device, or under torchrun many; in which precision."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from oneiros.train.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(precision: Precision) -> Fabric:
    """One device, or under torchrun all processes together (NCCL between GPUs, gloo between CPUs)."""
    from lightning_fabric import Fabric  # takes seconds
    from lightning_fabric.strategies import DDPStrategy

    processes, here = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    # a null embedding that no sample drew has no gradient; buffers are each process's own until after_step sums them
    together = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    fabric = Fabric(
        accelerator="auto",
        devices=here,
        num_nodes=processes // here,
        strategy=together if processes > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" or (precision == "auto" and bf16_is_faster()) else "32-true",
    )
    fabric.launch()
    return fabric


def precision_of(fabric: Fabric) -> str:
    """`bf16-mixed` or `32-true`."""
    return str(fabric.strategy.precision.precision)


def bf16_is_faster() -> bool:
    """Whether this machine has instructions for bf16 matrix products (measured 5x float32 on CPUs that have)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
