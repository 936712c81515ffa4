"""The part of the page that shows what a world knows of rewards and ends."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from oneiros.report.charts import Line, line_chart
from oneiros.report.page import figure, number_table, section, side_by_side

_SCORES = ("precision", "recall", "f1")


def rewards_and_ends(measured: Mapping[str, Any] | None) -> str:
    """A section; nothing for a world that knows of neither, a sentence where the data does not."""
    if measured is None:
        return ""
    if "left_out" in measured:
        return section("Rewards and ends", f"Left out: {escape(measured['left_out'])}.", "")
    text = (
        "What the world expects a step to pay, and how probable it thinks that the step ends the episode, beside what "
        f"came: over {measured['steps']:,} steps of real frames, and in {measured['dreams']:,} dreams. Shifted: how "
        "what is said of step t goes together with what came of step t + shift; the peak must be at 0, or labels and "
        "steps do not belong together."
    )
    figures = []
    if reward := measured["reward"]:
        figures += _reward_charts(reward)
    if end := measured["end"]:
        figures += _end_charts(end)
    shifts = {name: measured[name]["time_shift"] for name in ("reward", "end") if measured[name]}
    colours = {"reward": "model", "end": "sampled"}
    lines = [Line(name, each["correlation"], colours[name]) for name, each in shifts.items()]
    if lines:
        at = next(iter(shifts.values()))["shift"]
        figures.append(figure(line_chart(at, lines, x_label="shift in steps", y_label="correlation when shifted")))
    return section("Rewards and ends", text, side_by_side(figures))


def _reward_charts(reward: Mapping[str, Any]) -> list[str]:
    steps = range(1, len(reward["error"]) + 1)
    watched, constant = reward["watched"], reward["constant"]
    errors = [
        Line("dream", reward["error"], "model"),
        Line("on real frames", [watched["error"]] * len(steps), "ceiling", dashed=True),
        Line("always the median", [constant] * len(steps), "copy", dashed=True),
    ]
    correlations = [
        Line("dream", reward["correlation"], "model"),
        Line("on real frames", [watched["correlation"]] * len(steps), "ceiling", dashed=True),
    ]
    x = "dreamed step"
    return [
        figure(line_chart(steps, errors, x_label=x, y_label="mean error of the reward", from_zero=True)),
        figure(line_chart(steps, correlations, x_label=x, y_label="correlation of rewards", from_zero=True)),
    ]


def _end_charts(end: Mapping[str, Any]) -> list[str]:
    table = end["reliability"]
    x = [float(f"{value:.2g}") for value in table["probability"]]
    lines = [Line("share that ended", table["share"], "model"), Line("as it should be", x, "ceiling", dashed=True)]
    chart = line_chart(x, lines, x_label="probability of an end", y_label="share of steps that ended", log_x=min(x) > 0)
    rows = [
        (f"{name}, said from {end[key]['threshold']:.2f} on", [_or_nan(end[key][score]) for score in _SCORES], 2)
        for key, name in (("watched", "real frames"), ("watched_half", "real frames"), ("dreamed", "dreams"))
    ]
    counted = f"Ends within a step: {end['watched']['ends']} on real frames, {end['dreamed']['ends']} in dreams."
    return [
        figure(chart, "Reliability, on real frames."),
        figure(number_table("", ("precision", "recall", "F1"), rows), counted),
    ]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
