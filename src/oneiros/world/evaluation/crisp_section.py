"""The part of the page that shows how sharp dreams are, and how right where something moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from oneiros.report.page import figure, frame_grid, head, picture, section, side_by_side
from oneiros.world.evaluation.fidelity import Example
from oneiros.world.evaluation.horizon_chart import VARIANTS, horizon_chart
from oneiros.world.metrics import MOVES, moves

_SHOWN = (1, 4, 8, 16)
_SIDE = 192  # pixels at least that a picture is wide: what is blurred must show


def crispness(measured: Mapping[str, Any], example: Example) -> str:
    """A section: frames of one clip side by side and large, then the two charts."""
    text = (
        "Sharpness is how much neighbouring pixels differ, as a share of the real frames' (1 is as sharp; noise counts "
        "as sharp, too). Pixels that move are those that differ from the last given frame by more than "
        f"{MOVES} of 255 levels, {measured['moving']['share'][-1]:.0%} of all at the last frame: where a copy is "
        "wrong, and a dream has to know better. In the last row the others are black. Bands: one standard error, clips "
        "of an episode counted as one group."
    )
    sharpness, moving = measured["sharpness"], measured["moving"]
    charts = [
        horizon_chart(
            measured,
            sharpness,
            "sharpness, dreamed over real",
            from_zero=True,
            error=sharpness["standard_error"],
        ),
        horizon_chart(measured, moving["psnr"], "PSNR over moving pixels, dB"),
    ]
    return section("Crispness", text, _faces(example) + side_by_side([figure(chart) for chart in charts]))


def _faces(example: Example) -> str:
    horizon = len(example.dreams["sampled"])
    shown = [h for h in _SHOWN if h <= horizon]
    real = example.real[-horizon:]
    seen = moves(real, example.dreams["copy_last_frame"][:1])
    rows = [("", [head(h, dreamed=True) for h in shown]), ("real", [_large(real[h - 1]) for h in shown])]
    for variant in ("reconstruction", "sampled", "model", "copy_last_frame"):
        rows.append((VARIANTS[variant][0], [_large(example.dreams[variant][h - 1]) for h in shown]))
    rows.append(("real, where it moves", [_large(real[h - 1] * seen[h - 1, ..., None]) for h in shown]))
    return frame_grid(rows, widest="13rem")


def _large(frame: torch.Tensor) -> str:
    """uint8 (h, w, 3), every pixel a square."""
    times = max(1, _SIDE // frame.shape[1])
    return picture(np.kron(frame.numpy(), np.ones((times, times, 1), np.uint8)))
