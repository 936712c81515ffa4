"""Depth in metres <-> 12-bit codes, as LeRobot (>= 0.6) stores depth video.

Nearby depth gets the finer steps: codes are linear in log(metres + shift), as are the errors of depth sensors.
"""

from __future__ import annotations

import math

import numpy as np

from oneiros.records import Camera

MAX_CODE = 4095


def _scale(camera: Camera) -> tuple[float, float]:
    """Offset and length of the camera's range: in log metres, or in metres where depth is not stored as logarithms."""
    low, high, shift = camera.depth_min, camera.depth_max, camera.depth_shift
    if not low < high or (camera.depth_log and low + shift <= 0):
        raise ValueError(
            f"{camera.name}: depth runs from {low} to {high} m with a shift of {shift} m; "
            "the minimum must lie below the maximum, and minimum + shift above 0"
        )
    if not camera.depth_log:
        return low, high - low
    return math.log(low + shift), math.log(high + shift) - math.log(low + shift)


def depth_to_codes(metres: np.ndarray, camera: Camera) -> np.ndarray:
    """Metres (..., H, W) -> uint16 codes 0..4095; depth outside the camera's range is clipped to it.

    NaN and infinity mean "nothing seen" and become the largest code.
    """
    offset, length = _scale(camera)
    metres = np.nan_to_num(metres.astype(np.float32), nan=np.inf, posinf=np.inf)
    metres = np.clip(metres, np.float32(camera.depth_min), np.float32(camera.depth_max))
    values = np.log(metres + np.float32(camera.depth_shift)) if camera.depth_log else metres
    return np.rint((values - offset) * (MAX_CODE / length)).clip(0, MAX_CODE).astype(np.uint16)


def codes_to_depth(codes: np.ndarray, camera: Camera) -> np.ndarray:
    """uint16 codes (..., H, W) -> float32 metres."""
    offset, length = _scale(camera)
    values = codes.astype(np.float32) * np.float32(length / MAX_CODE) + np.float32(offset)
    metres = np.exp(values) - np.float32(camera.depth_shift) if camera.depth_log else values
    return metres.clip(camera.depth_min, camera.depth_max).astype(np.float32)
