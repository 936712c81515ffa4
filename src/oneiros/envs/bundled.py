"""The world that ships with the package."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "bundled"


def bundled_world() -> Path:
    """Its run folder. ValueError in a copy of the package that has none."""
    if not (_FOLDER / "config.json").is_file():
        raise ValueError("this copy of Oneiros has no world built in; name the run folder of one (oneiros play RUN)")
    return _FOLDER
