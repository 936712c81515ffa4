"""The part of the page that shows which things a dream keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oneiros.report.page import enlarged, figure, frame_grid, head, number_table, picture, section, side_by_side
from oneiros.world.evaluation.fidelity import Example
from oneiros.world.evaluation.horizon_chart import SHOWN, VARIANTS, horizon_chart
from oneiros.world.evaluation.things.instances import Instances, instances, matches
from oneiros.world.evaluation.things.judge import Judge
from oneiros.world.evaluation.things.network import see
from oneiros.world.evaluation.things.scores import REAL, SIZES, smallest

_FOUND, _MISSED, _INVENTED = (60, 220, 90), (240, 60, 60), (250, 170, 30)
_ROWS = (REAL, "reconstruction", "sampled", "model", "copy_last_frame")


def things_that_stay(measured: Mapping[str, Any], examples: Sequence[Example], judge: Judge | None, stride: int) -> str:
    """A section, or a sentence where things were not measured. stride: rows from one frame to the next."""
    things = measured["things"]
    if not things or judge is None or "left_out" in things:
        why = (things or {}).get("left_out") or "nobody looked for them"
        return section("Things that stay", f"Left out: {escape(why)}.", "")
    text = (
        f"A small network learned on {things['learned_from']:,} real training frames, from their label images, what "
        f"things look like ({escape(', '.join(judge.names))}). F1: how many of the real frame's things it finds in the "
        "dream at the right place, and how few that are not there. On the real frames themselves it reaches the line "
        f"of that name: the best any dream could score. In the pictures a thing is {_key(_FOUND)} found, "
        f"{_key(_MISSED)} missed (where it should be) or {_key(_INVENTED)} invented. Band: one standard error."
    )
    chart = horizon_chart(
        measured, things["f1"], "F1 of things", from_zero=True, error=_where_known(things["standard_error"])
    )
    rows = [
        (VARIANTS[name][0], [_or_nan(things["by_size"][size][name]) for size in SIZES], 2)
        for name in VARIANTS
        if name in things["f1"]
    ]
    rows.append(("things in the real frames", [things["by_size"][size]["things"] for size in SIZES], 0))
    figures = [figure(chart), figure(number_table("F1 by size, all frames", SIZES, rows))]
    return section("Things that stay", text, _faces(examples, judge, stride) + side_by_side(figures))


def _faces(examples: Sequence[Example], judge: Judge, stride: int) -> str:
    """The clip with most things in the frames shown, with a box around each."""
    horizon = len(examples[0].dreams["sampled"])
    shown = [h for h in SHOWN if h <= horizon]
    counts = smallest(*examples[0].real.shape[1:3])
    least = max(1, counts // 2)

    def truth(example: Example) -> Tensor:
        (episode, row), first = example.where, len(example.real) - horizon
        places = [row + (first + h - 1) * stride for h in shown]
        return torch.from_numpy(np.stack([judge.kinds[episode][place] for place in places]))

    example = max(examples, key=lambda each: len(instances(truth(each), least=least).area))
    true = instances(truth(example), least=least)
    real = example.real[-horizon:]
    rows = [("", [head(h, dreamed=True) for h in shown])]
    for name in _ROWS:
        frames = (real if name == REAL else example.dreams[name])[[h - 1 for h in shown]]
        seen = instances(see(judge.network, frames), least=least)
        rows.append((VARIANTS[name][0], [picture(frame) for frame in _boxed(frames, true, seen, counts)]))
    return frame_grid(rows, widest="13rem")


def _boxed(frames: Tensor, true: Instances, seen: Instances, counts: int) -> list[np.ndarray]:
    """uint8 frames (M, h, w, 3), enlarged, with boxes as large as the things, of those of `counts` pixels or more."""
    pictures = [enlarged(frame.numpy()) for frame in frames]
    times = pictures[0].shape[1] // frames.shape[2]
    pairs = matches(true, seen, width=frames.shape[2])
    found, taken = {place for place, _ in pairs}, {other for _, other in pairs}
    boxes = [(true, place, _FOUND if place in found else _MISSED) for place in range(len(true.area))]
    boxes += [(seen, place, _INVENTED) for place in range(len(seen.area)) if place not in taken]
    for things, place, colour in boxes:
        if things.area[place] >= counts:
            _box(pictures[things.frame[place]], things, place, colour, times)
    return pictures


def _box(image: np.ndarray, things: Instances, place: int, colour: tuple[int, int, int], times: int) -> None:
    """Draws into `image`."""
    half = things.area[place].item() ** 0.5 / 2 + 1.5
    row, column = things.centre[place].tolist()
    top, left, bottom, right = (
        int(np.clip(edge * times, 0, limit - 1))
        for edge, limit in zip(
            (row + 0.5 - half, column + 0.5 - half, row + 0.5 + half, column + 0.5 + half),
            (*image.shape[:2], *image.shape[:2]),
            strict=True,
        )
    )
    image[[top, bottom], left : right + 1] = colour
    image[top : bottom + 1, [left, right]] = colour


def _key(colour: tuple[int, int, int]) -> str:
    return f'<span class="key" style="background:rgb{colour}"></span>'


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _where_known(errors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in errors.items() if values is not None and name in ("sampled", REAL)}
