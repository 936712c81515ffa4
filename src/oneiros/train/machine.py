"""Where a run computes: one device, or under torchrun many; in which precision."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import torch

from oneiros.machine import bf16_is_faster
from oneiros.train.config import Precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def make_fabric(precision: Precision) -> Fabric:
    """One device, or under torchrun all processes together (NCCL between GPUs, gloo between CPUs)."""
    from lightning_fabric import Fabric  # takes seconds
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the run announces its precision itself
    processes, here = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = precision == "bf16" or (precision == "auto" and bf16_is_faster(device))
    together = DDPStrategy(find_unused_parameters=True)  # a null embedding that no sample drew has no gradient
    fabric = Fabric(
        accelerator="auto",
        devices=here,
        num_nodes=processes // here,
        strategy=together if processes > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    return fabric


def drain_gloo() -> None:
    """Wait until this process may end: nothing where it trains alone, half a second where processes train together.

    gloo's threads drop the tensors of a collective some time after it, for which they need the interpreter's lock. An
    interpreter that ends meanwhile aborts ("terminate called without an active exception"), and one that destroys the
    group waits for them forever, the lock in its hand. A barrier does not help: it ends when the messages have come,
    which says nothing of the threads. Asleep, this one gives them the lock.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        time.sleep(0.5)


def precision_of(fabric: Fabric) -> str:
    """`bf16-mixed` or `32-true`."""
    return str(fabric.strategy.precision.precision)
