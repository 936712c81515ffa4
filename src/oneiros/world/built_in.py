"""The worlds that ship with the package: where their run folders lie, and what they look like. Free of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

STARTS = "starts.safetensors"  # in a run folder: beginnings for players without the dataset
_FOLDER = Path(__file__).with_name("bundled")


def bundled_worlds() -> dict[str, Path]:
    """The run folders of the worlds that ship with the package, by name. ValueError in a copy that has none."""
    found = {path.parent.name: path.parent for path in sorted(_FOLDER.glob(f"*/{STARTS}"))}
    if not found:
        raise ValueError("this copy of Oneiros has no world built in; name the run folder of one (oneiros play RUN)")
    return found


def bundled_world() -> Path:
    """The run folder of the first world that ships. ValueError in a copy that has none."""
    return next(iter(bundled_worlds().values()))


def run_named(run: Path | str | None) -> Path:
    """The run folder that somebody names: one that exists, else the world built in of that name; None = the first of
    these."""
    if run is None:
        return bundled_world()
    return Path(run) if Path(run).exists() else bundled_worlds().get(str(run), Path(run))


def picture_of(run: Path) -> np.ndarray:
    """The last frame of a world's first start, uint8 (H, W, 3), without loading the world."""
    return np.ascontiguousarray(load_file(run / STARTS)["frames"][0, -1, ..., :3])
