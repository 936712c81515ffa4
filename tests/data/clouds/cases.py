"""Clouds for the tests: real files from ../shared, and files of every LAS point format with random bytes."""

from __future__ import annotations

from pathlib import Path

import laspy
import numpy as np
import pytest

from oneiros.data.clouds.formats import Cloud
from tests import places

SHARED = places.SHARED / "data"
LAS_FILES = sorted([*SHARED.glob("cloud_formats/*.la[sz]"), *SHARED.glob("ign_lidarhd/*.laz")])
PLY_FILES = sorted(SHARED.glob("cloud_formats/*.ply"))
needs_files = pytest.mark.skipif(not LAS_FILES, reason="the real clouds are not here (../shared/data)")


def small_cloud(num_points: int = 50) -> Cloud:
    rng = np.random.default_rng(0)
    attributes = {
        "intensity": rng.integers(0, 2**16, num_points).astype(np.uint16),
        "return_number": rng.integers(1, 5, num_points).astype(np.uint8),
        "gps_time": rng.random(num_points),
        **{name: rng.integers(0, 2**16, num_points).astype(np.uint16) for name in ("red", "green", "blue")},
        "classification": rng.integers(0, 32, num_points).astype(np.uint8),
        "planarity": rng.random(num_points).astype(np.float32),
    }
    xyz = np.array([770_500, 6_277_550, 20]) + np.round(rng.random((num_points, 3)) * 50, 3)
    return Cloud(xyz, attributes, class_names={2: "soil"})


def random_las(path: Path, point_format: int, num_points: int = 40) -> Path:
    """By laspy itself: random bits in every field, flags included."""
    rng = np.random.default_rng(point_format)
    header = laspy.LasHeader(version="1.4", point_format=point_format)
    las = laspy.LasData(header, laspy.ScaleAwarePointRecord.zeros(num_points, header=header))
    raw = rng.integers(0, 256, (num_points, header.point_format.size), np.uint8)
    las.points.array[:] = raw.view(las.points.array.dtype).reshape(-1)
    las.write(path)
    return path
