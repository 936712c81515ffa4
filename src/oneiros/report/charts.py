"""Line charts as inline SVG that take their colours from the page, so that they fit a light and a dark one.

Matplotlib draws with stand-in colours, which are then replaced by CSS variables of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# stand-in -> CSS variable; the stand-ins only need to be unlike anything else in the file
_COLOURS = {
    "ink": "#010a01",
    "muted": "#020a02",
    "grid": "#030a03",
    "model": "#040a04",
    "sampled": "#050a05",
    "likeliest": "#090a09",
    "shuffled": "#060a06",
    "copy": "#070a07",
    "ceiling": "#080a08",
}


@dataclass(frozen=True)
class Line:
    """values: one for each x of the chart; None leaves a gap. colour: a key of the page's palette. error: half the
    height of a shaded band."""

    name: str
    values: Sequence[float | None]
    colour: str
    dashed: bool = False
    error: Sequence[float] | None = None


def line_chart(
    x: Sequence[float],
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    from_zero: bool = False,
    size: tuple[float, float] = (6.4, 3.4),
) -> str:
    """An `<svg>` element. size: inches; the page scales it to its column."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": y_label + x_label + "".join(line.name for line in lines)}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _draw(axes, x, line)
        _furnish(axes, x, x_label, y_label, log_x=log_x, from_zero=from_zero)
        if len(lines) > 1:  # above the plot, where it can cover no line
            figure.legend(loc="outside upper left", ncols=2, frameon=False, labelcolor=_COLOURS["ink"], fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(buffer.getvalue())


def _draw(axes: Any, x: Sequence[float], line: Line) -> None:
    colour = _COLOURS[line.colour]
    values = [float("nan") if value is None else value for value in line.values]
    marker = "o" if len(x) < 40 else None
    axes.plot(x, values, color=colour, lw=2, ls="--" if line.dashed else "-", marker=marker, ms=3.5, label=line.name)
    if line.error is not None:
        low = [value - error for value, error in zip(values, line.error, strict=True)]
        high = [value + error for value, error in zip(values, line.error, strict=True)]
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def _furnish(axes: Any, x: Sequence[float], x_label: str, y_label: str, *, log_x: bool, from_zero: bool) -> None:
    axes.set_xlabel(x_label, color=_COLOURS["muted"])
    axes.set_ylabel(y_label, color=_COLOURS["muted"])
    axes.tick_params(colors=_COLOURS["muted"], length=0)
    axes.grid(axis="y", color=_COLOURS["grid"], lw=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_COLOURS["grid"])
    if log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
    if log_x or len(x) <= 20:
        axes.set_xticks(list(x), [f"{value:g}" for value in x])
    if from_zero:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))


def _themed(svg: str) -> str:
    """Only the element, without fixed size, stand-ins replaced."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for name, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
