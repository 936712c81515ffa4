"""Draws docs/images/house.png: the packages of Oneiros by tier, as the contract in pyproject.toml orders them.

Usage: python docs/images/make_house.py
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT, GAP = 100.0, 8.5, 2.2
COLOURS = ("#f2d6b3", "#f6c9c9", "#c9dcf6", "#d9efd2", "#ece6f5", "#ece6f5", "#e8e8e8")
HOLDS = {
    "cli": "one file a verb",
    "loading": "load(path): kind to class",
    "agents": "learn and plan\nin dreams",
    "policy": "acts from what a world imagines:\nthe three systems meet here",
    "export": "a world as ONNX files",
    "world": "frames to codes,\ncodes to dreams",
    "points": "KPConvX and\nits networks, lidar",
    "video_former": "many features\nto a few tokens",
    "report": "pages, charts",
    "train": "the engine",
    "web": "the player",
    "envs": "ViZDoom, Meta-World,\nGymnasium",
    "data": "episodes, clouds, video",
    "nn": "what two systems share",
    "run_folder": "the schema of a run",
    "machine": "devices, precision",
    "cluster": "work that splits",
    "ops": "kernels",
    "disk": "whole or\nnot at all",
    "json_file": "of strangers,\nbounded",
    "bounded": "what tensors\nmay take",
    "agreement": "same actions, same speed",
    "sampling": "how dreams\nare drawn",
    "imports": "modules that\nthe user names",
    "console": "bars",
    "records": "what flows:\nClip, Loss",
}


def main() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    tiers = [[room.strip(" ()") for room in tier.replace(":", "|").split("|")] for tier in contracts[0]["layers"]]
    tiers = [tier for tier in tiers if set(tier) & HOLDS.keys()]
    figure = Figure(figsize=(10, 6.2), dpi=110)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-2, WIDTH + 2), ylim=(-len(tiers) * (HEIGHT + GAP) - 3, 3))
    axes.axis("off")
    for row, (tier, colour) in enumerate(zip(tiers, COLOURS, strict=True)):
        draw_tier(axes, tier, -row * (HEIGHT + GAP), colour)
    text = "imports run downwards only; rooms of one tier never import one another"
    axes.text(WIDTH / 2, -len(tiers) * (HEIGHT + GAP) - 1, text, ha="center", va="top", fontsize=11, style="italic")
    figure.savefig(ROOT / "docs" / "images" / "house.png")


def draw_tier(axes: Axes, rooms: Sequence[str], top: float, colour: str) -> None:
    width = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
    for place, room in enumerate(rooms):
        left = place * (width + GAP)
        box = FancyBboxPatch((left, top - HEIGHT), width, HEIGHT, boxstyle="round,pad=0,rounding_size=1")
        box.set(facecolor=colour, edgecolor="#555555", linewidth=1)
        axes.add_patch(box)
        middle = left + width / 2
        axes.text(middle, top - 1.2, room, ha="center", va="top", fontsize=12, weight="bold")
        axes.text(middle, top - HEIGHT + 1, HOLDS[room], ha="center", va="bottom", fontsize=8, linespacing=1.1)


if __name__ == "__main__":
    main()
