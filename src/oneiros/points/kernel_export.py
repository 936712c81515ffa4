"""What a kernel looks like: its points and weights as tables and as pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from oneiros.disk import replacing

_COLUMNS = 3  # panels side by side
_DPI = 120
_MOST_LABELS = 60  # rows of a heat map beyond which not every one is numbered


def export(
    folder: Path, kernel_points: Tensor, weights: Tensor, *, prefix: str | None, past_weights: Any
) -> list[Path]:
    """Write tables and pictures of kernel points (m, n_x) and weights (blocks, m, D); returns their paths.

    Q.npy, W.npy; Q.csv (a kernel point a line) and W.csv (D weights a line, kernel point by kernel point, block after
    block); kernel.png (the points in space, coloured by weight) and weights.png (heat maps). Given `past_weights`, also
    change.png. `prefix` is put before every name. Files appear whole or not at all.
    Raises ValueError for past weights of another shape, or a prefix that names another folder.
    """
    prefix = prefix or ""
    if Path(prefix).name != prefix and prefix:
        raise ValueError(f"prefix is {prefix!r}; it begins a file's name and cannot hold a folder")
    points, now = (tensor.detach().cpu().numpy() for tensor in (kernel_points, weights))
    past = None if past_weights is None else torch.as_tensor(past_weights).detach().cpu().numpy()
    if past is not None and past.shape != now.shape:
        raise ValueError(f"past_weights has shape {past.shape}; the weights are (blocks, m, D) = {now.shape}")
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Callable[[Path], None]] = {
        "Q.npy": lambda path: _save_array(path, points),
        "Q.csv": lambda path: _save_table(
            path, points, "kernel points: one a line, " + ",".join(_axes(points.shape[1]))
        ),
        "W.npy": lambda path: _save_array(path, now),
        "W.csv": lambda path: _save_table(
            path, now.reshape(-1, now.shape[2]), f"weights: {now.shape[0]} block(s) of {now.shape[1]} kernel points"
        ),
        "kernel.png": lambda path: _save_figure(path, kernel_figure(points, now)),
        "weights.png": lambda path: _save_figure(path, heat_figure(points, now, "weight")),
    }
    if past is not None:
        content["change.png"] = lambda path: _save_figure(path, heat_figure(points, now - past, "change of weight"))
    return [_whole(folder / (prefix + name), write) for name, write in content.items()]


def _whole(path: Path, write: Callable[[Path], None]) -> Path:
    with replacing(path) as temporary:
        write(temporary)
    return path


def _save_array(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _save_table(path: Path, values: np.ndarray, header: str) -> None:
    digits = 9 if values.dtype == np.float32 else 17  # what brings back the very same number
    np.savetxt(path, values, fmt=f"%.{digits}g", delimiter=",", header=header)


def _save_figure(path: Path, figure: Figure) -> None:
    figure.savefig(path, format="png", dpi=_DPI)


def kernel_figure(points: np.ndarray, weights: np.ndarray) -> Figure:
    """A panel for each block: kernel points where they lie, coloured by the mean magnitude of their weights.

    Points of one or two dimensions lie in a plane, seen from above; of more than three, the first three are drawn.
    """
    columns = min(len(weights), _COLUMNS)
    rows = math.ceil(len(weights) / columns)
    figure = Figure(figsize=(4.4 * columns + 1.4, 4.2 * rows), layout="constrained")
    drawn = np.zeros((len(points), 3))
    drawn[:, : min(3, points.shape[1])] = points[:, :3]
    strength = np.abs(weights).mean(2)
    limits = (float(strength.min()), float(strength.max()))
    panels: list[Any] = []
    colours: Any = None
    for block in range(len(weights)):
        axes: Any = figure.add_subplot(rows, columns, block + 1, projection="3d")
        colours = _draw_kernel(axes, drawn, strength[block], limits)
        axes.set_title(f"block {block}", fontsize=10)
        if points.shape[1] < 3:
            axes.view_init(elev=90, azim=-90)
            axes.set(zticks=[], zlabel="")
        panels.append(axes)
    figure.colorbar(colours, ax=panels, shrink=0.7, pad=0.08, label="mean |weight| over channels")
    return figure


def _draw_kernel(axes: Any, points: np.ndarray, strength: np.ndarray, limits: tuple[float, float]) -> Any:
    reach = max(float(np.linalg.norm(points, axis=1).max()), 1e-6)
    for radius in _shells(points):
        _draw_sphere(axes, radius)
    for point in points:
        axes.plot(*zip(np.zeros(3), point, strict=True), color="0.75", lw=0.8)
    colours = axes.scatter(
        *points.T,
        c=strength,
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        s=80,
        edgecolors="0.2",
        linewidths=0.5,
        depthshade=False,  # or colours would not be those of the bar
    )
    for number, point in enumerate(points):
        axes.text(*(point + 0.08 * reach), str(number), fontsize=7, color="0.2")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach), xlabel="x", ylabel="y", zlabel="z")
    axes.set_box_aspect((1, 1, 1), zoom=0.9)
    axes.grid(False)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=7)
    return colours


def _draw_sphere(axes: Any, radius: float) -> None:
    """Three great circles: enough to see the shell, and light enough to see through."""
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = radius * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)])
    for turn in range(3):
        axes.plot(*np.roll(circle, turn, axis=0), color="0.55", lw=0.8, ls=":")


def _shells(points: np.ndarray) -> list[float]:
    """Radii on which more than two points lie: learned points lie on none."""
    radii, counts = np.unique(np.linalg.norm(points, axis=1).round(4), return_counts=True)
    return [float(radius) for radius, count in zip(radii, counts, strict=True) if count > 2 and radius > 0]


def heat_figure(points: np.ndarray, values: np.ndarray, label: str) -> Figure:
    """A heat map for each block, kernel points down and channels across, red above zero and blue below. Lines part the
    shells."""
    blocks, rows, channels = values.shape
    width, height = min(max(5.2, channels * 0.11 + 1.8), 14), min(max(2.2, rows * 0.14 + 0.9), 8)
    figure = Figure(figsize=(width, height * blocks), layout="constrained")
    largest = max(float(np.abs(values).max()), 1e-12)
    radii = np.linalg.norm(points, axis=1)
    panels: list[Any] = []
    image: Any = None
    for block in range(blocks):
        axes = figure.add_subplot(blocks, 1, block + 1)
        image = axes.imshow(
            values[block], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="none"
        )
        spread = float(np.sqrt(np.square(values[block]).mean()))
        axes.set_title(f"block {block}: {label}, root mean square {spread:.3g}", fontsize=10)
        axes.set(xlabel="channel", ylabel="kernel point")
        axes.set_yticks(range(0, rows, 1 if rows <= _MOST_LABELS // 2 else math.ceil(rows / 20)))
        axes.tick_params(labelsize=6)
        for row in np.flatnonzero(np.diff(radii.round(4))) if _shells(points) else ():
            axes.axhline(row + 0.5, color="black", lw=1.5)
        panels.append(axes)
    figure.colorbar(image, ax=panels, shrink=0.8, label=label)
    return figure


def _axes(dimension: int) -> list[str]:
    return list("xyz"[:dimension]) if dimension <= 3 else [f"x{axis}" for axis in range(dimension)]
