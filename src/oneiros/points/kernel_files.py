"""Kernel points read from a file, for `KPConvX(kernel_points=...)`: those that `kernel_export` writes, or anyone's."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.disk import map_array


def load_kernel_points(path: str | PathLike[str]) -> Tensor:
    """Kernel points, float64 (m, D), from a .npy file, a .csv (one point a line, # comments), or the x, y, z of a .ply.

    Raises OSError for a missing file, ValueError for one that holds anything but finite points.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: kernel points are read from {', '.join(_READERS)}, not from {path.suffix!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of kernel points")
    try:
        points = torch.as_tensor(_READERS[path.suffix.lower()](path), dtype=torch.float64)
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as kernel points: {error}") from error
    if points.ndim != 2 or points.numel() == 0:
        raise ValueError(f"{path}: kernel points are (m, D), got an array of shape {tuple(points.shape)}")
    if not points.isfinite().all():
        row = int((~points.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"{path}: kernel point {row} is {points[row].tolist()}; coordinates must be finite")
    return points


def _read_npy(path: Path):
    return map_array(path).astype(np.float64)


def _read_csv(path: Path):
    text = path.read_text()
    rows = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return np.loadtxt(rows, delimiter=",", ndmin=2) if rows else np.empty((0, 0))


def _read_ply(path: Path):
    from oneiros.data.clouds.ply import PlyFile

    return PlyFile(path).read(attributes=()).xyz


_READERS = {".npy": _read_npy, ".csv": _read_csv, ".ply": _read_ply}
