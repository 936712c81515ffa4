"""The segmenter that comes with the package; docs/lidar-model.md tells what it learned from and where it holds."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("bundled")


def bundled_segmenter() -> Path:
    """The run folder of the segmenter of airborne lidar: ground, vegetation, building."""
    return _FOLDER / "lidar"
