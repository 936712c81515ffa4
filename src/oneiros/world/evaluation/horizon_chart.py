"""A measure by dreamed frame, a line for every variant of the dream and for what it is set beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oneiros.report.charts import Line, line_chart

VARIANTS = {
    "real": ("real frames", "ink"),
    "reconstruction": ("tokenizer's reconstruction (ceiling)", "ceiling"),
    "sampled": ("dream as played (sampled)", "model"),
    "model": ("dream, expected codes", "sampled"),
    "likeliest": ("dream, likeliest codes", "likeliest"),
    "shuffled_actions": ("dream, another clip's actions", "shuffled"),
    "copy_last_frame": ("copy the last frame", "copy"),
}
SHOWN = (1, 4, 8, 16)  # of which pictures show frames
_DASHED = ("model", "likeliest", "copy_last_frame")


def horizon_chart(
    measured: Mapping[str, Any], values: Mapping[str, Any], label: str, *, from_zero: bool = False, error: Any = None
) -> str:
    """values: by variant, a value for each horizon. error: standard errors of some of them, likewise, or None."""
    lines = [
        Line(name, values[variant], colour, dashed=variant in _DASHED, error=(error or {}).get(variant))
        for variant, (name, colour) in VARIANTS.items()
        if variant in values
    ]
    return line_chart(horizons(measured), lines, x_label="dreamed frame", y_label=label, from_zero=from_zero)


def horizons(measured: Mapping[str, Any]) -> Sequence[int]:
    """The dreamed frames, counted from 1."""
    return range(1, measured["horizon"] + 1)
