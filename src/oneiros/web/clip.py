"""What was played, as a file to download."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

KINDS = {"mp4": "video/mp4", "gif": "image/gif"}
_SMALLEST = 256  # pixels: small frames are enlarged, in whole steps, to at least this height


def encode(frames: np.ndarray, ending: str, *, fps: float) -> bytes:
    """uint8 (F, H, W, 3) -> the bytes of an .mp4 (H.264) or .gif."""
    factor = max(1, -(-_SMALLEST // frames.shape[1]))
    factor += factor % 2  # H.264 halves its colours: sizes must be even
    if ending == "gif":
        return _gif(frames, factor, fps)
    from oneiros.data.video import VideoEncoder

    height, width = (side * factor for side in frames.shape[1:3])
    with TemporaryDirectory(prefix="oneiros-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        encoder = VideoEncoder(path, height=height, width=width, fps=max(1, round(fps)))
        for frame in frames:
            encoder.add(frame.repeat(factor, 0).repeat(factor, 1))
        encoder.close()
        return path.read_bytes()


def _gif(frames: np.ndarray, factor: int, fps: float) -> bytes:
    pictures = (Image.fromarray(frame) for frame in frames)
    large = (picture.resize((picture.width * factor, picture.height * factor), 0) for picture in pictures)
    first, buffer = next(large), io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=large, duration=max(20, round(1000 / fps)), loop=0)
    return buffer.getvalue()
