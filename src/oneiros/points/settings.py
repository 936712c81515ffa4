"""Settings of `oneiros train segmenter`, and its presets. Free of torch, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from oneiros.train.settings import Preset, Settings

SEGMENTER_PRESETS = {
    "tiny": Preset(
        model={"network": "tiny", "max_points": 2048},
        fit={"steps": 100, "batch_size": 4, "learning_rate": 3e-3, "save_every": 50, "picture_every": 50},
    ),
    "small": Preset(
        model={"network": "small", "max_points": 8192, "label_smoothing": 0.05},
        fit={
            "steps": 1500,
            "batch_size": 4,
            "learning_rate": 3e-3,
            "final_lr_fraction": 0.02,
            "weight_decay": 0.05,
            "ema_decay": 0.99,
            "save_every": 200,
            "picture_every": 200,
        },
    ),
    "base": Preset(
        model={"network": "official-S", "max_points": 30_000},
        fit={"steps": 50_000, "batch_size": 8, "learning_rate": 2e-3, "save_every": 1000, "picture_every": 1000},
    ),
}


@dataclass(frozen=True, kw_only=True)
class SegmenterSettings(Settings):
    """Learn to classify the points of clouds, such as airborne lidar, from clouds that are classified already."""

    presets: ClassVar = SEGMENTER_PRESETS

    clouds: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Classified clouds: LAS, LAZ (COPC too), PLY, PCD, E57, npy, npz, text."""

    columns: str = ""
    """What the columns of texts are, such as x,y,z,intensity,class; - is a column to pass over. Default: what their
    first line says."""

    classes: str = "2,3-5,6"
    """Classification codes to learn, a class for each part between commas; 3-5 are learned as one class. Points of
    other codes are looked at, but neither learned nor measured."""

    names: tuple[str, ...] = ()
    """What to call the classes. Default: as ASPRS calls their codes."""

    held_out: tuple[Path, ...] = ()
    """Clouds of those given to measure on instead of learning from. Default: the last one; of a single cloud, a fifth
    of its length."""

    grid: float | None = None
    """Points are averaged over cells of this side before anything else, in the clouds' unit. Default: 2.5
    times the usual distance between neighbours, rounded."""

    network: str | None = None
    """Instead of the preset's: tiny, small, official-S, official-L; kpconvx-dense, on receptive fields of equal size as
    VL3D builds them; or a JSON file that describes one such (docs/coming-from.md)."""

    class_weights: tuple[float, ...] = ()
    """Of each class in the loss. Default: by how rare it is."""

    radius: float | None = None
    """Of the vertical cylinders that the network looks at. Default: 30 cells."""

    features: tuple[str, ...] = ()
    """What to learn from beside heights: cones (heights above ground that rises gently, for wide roofs and hills),
    steps (how much lower ground lies that no gentle way leads to, for the same), intensity_rank, echoes,
    colour_rank. Default: all that every cloud offers."""

    landscapes: int = 3
    """Copies of each cloud in other landscapes to learn from as well: thinner, larger, on hills, with false echoes."""
