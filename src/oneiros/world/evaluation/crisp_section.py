"""The part of the page that shows how sharp dreams are, and how right where something moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oneiros.report.page import enlarged, figure, frame_grid, head, picture, section, side_by_side
from oneiros.world.evaluation.fidelity import Example
from oneiros.world.evaluation.horizon_chart import SHOWN, VARIANTS, horizon_chart
from oneiros.world.metrics import MOVES, moves


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
    shown = [h for h in SHOWN if h <= horizon]
    real = example.real[-horizon:]
    seen = moves(real, example.dreams["copy_last_frame"][:1])
    beside = ("reconstruction", "sampled", "model", "copy_last_frame")
    frames = {"real": real, **{VARIANTS[variant][0]: example.dreams[variant] for variant in beside}}
    frames["real, where it moves"] = real * seen[..., None]
    rows = [("", [head(h, dreamed=True) for h in shown])]
    rows += [(name, [picture(enlarged(each[h - 1].numpy())) for h in shown]) for name, each in frames.items()]
    return frame_grid(rows, widest="13rem")
