"""Frames between disk and model: the only place where uint8 becomes [-1, 1] and back, and where images are resized.

On disk, wire and screen a frame is uint8 (H, W, 3); inside models it is float (C, H, W) in [-1, 1].
Depth travels as 12-bit codes (data/depth.py), in models scaled to [-1, 1] as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oneiros.data.depth import MAX_CODE, codes_to_depth, depth_to_codes
from oneiros.records import Camera


def to_model(frames: np.ndarray | Tensor) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    frames = torch.as_tensor(frames)
    if frames.dtype != torch.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {tuple(frames.shape)}; they must be uint8 (..., H, W, 3)")
    return frames.movedim(-1, -3).to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(frames: Tensor) -> Tensor:
    """Float (..., C, H, W) in [-1, 1] -> uint8 (..., H, W, 3); channels after the third (depth) are left out."""
    pixels = frames.detach()[..., :3, :, :].float().add(1.0).mul_(127.5).round_().clamp_(0, 255)
    return pixels.to(torch.uint8).movedim(-3, -1)


def depth_to_model(metres: np.ndarray | Tensor, camera: Camera) -> Tensor:
    """Metres (..., H, W) -> float32 in [-1, 1], linear in the camera's 12-bit depth code."""
    return codes_to_model(depth_to_codes(np.asarray(metres), camera))


def depth_from_model(values: Tensor, camera: Camera) -> np.ndarray:
    """Float (..., H, W) in [-1, 1] -> float32 metres."""
    codes = (values.detach().float().cpu() + 1) * (MAX_CODE / 2)
    return codes_to_depth(codes.round().clamp(0, MAX_CODE).numpy(), camera)


def codes_to_model(codes: np.ndarray) -> Tensor:
    """Depth codes 0..4095 -> float32 in [-1, 1]."""
    return torch.from_numpy(codes.astype(np.float32)).mul_(2 / MAX_CODE).sub_(1.0)


def resize(frames: np.ndarray | Tensor, height: int, width: int, *, crop: bool = True) -> np.ndarray:
    """uint8 (T, H, W, 3) -> uint8 (T, height, width, 3) with an area filter: every source pixel counts equally.

    crop: first cut the largest centred window of the target's aspect ratio, so that nothing is squeezed.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; they must be uint8 (T, H, W, 3)")
    if frames.shape[1:3] == (height, width):
        return frames
    box = _window(frames.shape[1], frames.shape[2], height, width, crop=crop)
    resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.BOX, box=box) for frame in frames]
    return np.stack([np.asarray(image) for image in resized])


def resize_nearest(values: np.ndarray, height: int, width: int, *, crop: bool = True) -> np.ndarray:
    """(T, H, W) -> (T, height, width), each the source pixel at its centre.

    For depth and labels: averaging across an edge would invent a surface, or a class, that was never there.
    """
    left, top, right, bottom = _window(values.shape[1], values.shape[2], height, width, crop=crop)
    rows = (top + (np.arange(height) + 0.5) * (bottom - top) / height).astype(int)
    columns = (left + (np.arange(width) + 0.5) * (right - left) / width).astype(int)
    return values[:, rows[:, None], columns]


def resized(camera: Camera, height: int, width: int) -> Camera:
    """The camera that sees what `resize` leaves of this one's frames. Pixel centres count as whole numbers."""
    left, top, right, bottom = _window(camera.height, camera.width, height, width, crop=True)
    across, down = width / (right - left), height / (bottom - top)
    return replace(
        camera,
        height=height,
        width=width,
        fx=camera.fx * across,
        fy=camera.fy * down,
        cx=(camera.cx + 0.5 - left) * across - 0.5,
        cy=(camera.cy + 0.5 - top) * down - 0.5,
    )


def _window(
    height: int, width: int, new_height: int, new_width: int, *, crop: bool
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the part of an image that is kept."""
    if not crop:
        return 0.0, 0.0, float(width), float(height)
    scale = min(height / new_height, width / new_width)
    kept_height, kept_width = min(new_height * scale, height), min(new_width * scale, width)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return left, top, left + kept_width, top + kept_height
