"""The segmenter that comes with the package; docs/lidar-model.md tells what it learned from and where it holds.

`python -m oneiros.points.built_in RUN OUT` makes such a folder of a run: the weights, and what the clouds of the
training were like, but not where on a disk they lay, nor what only training needs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from oneiros.points.segmenter import Segmenter
from oneiros.run_folder import read_cloud_origin

_FOLDER = Path(__file__).with_name("bundled")


def bundled_segmenter() -> Path:
    """The run folder of the segmenter of airborne lidar: ground, vegetation, building."""
    return _FOLDER / "lidar"


def bundle(run: Path, out: Path) -> int:
    """Write `out`, a new folder; returns its size in bytes. Raises ValueError for a run that is no segmenter, or an
    `out` that exists."""
    model, origin = Segmenter.load(run), read_cloud_origin(run)
    if out.exists():
        raise ValueError(f"{out} exists; name a new folder")
    train, held_out = (tuple(Path(path).name for path in paths) for paths in (origin.train, origin.held_out))
    model.save(out, data=replace(origin, train=train, held_out=held_out))
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


if __name__ == "__main__":
    print(f"{bundle(*map(Path, sys.argv[1:])) / 1e6:.1f} MB")
