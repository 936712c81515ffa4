"""What moves in small frames: optical flow and brightness in cells, and which way blocks went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE = 48  # pixels of the frames that are compared

_CELLS, _COMPONENTS = 6, 12
_ACROSS, _DOWN, _BLOCKS, _SHARP = 8, 2, (2, 4), 16.0  # displacements in pixels of half the size; rows and columns


def flow_components(films: Sequence[np.ndarray]) -> list[np.ndarray]:
    """uint8 (T, SIDE, SIDE, 3) each -> what moves most, (T - 1, M) each."""
    flow, blocks = (_components([each(frames) for frames in films]) for each in (_motion, _blocks))
    return [np.concatenate(both, axis=1) for both in zip(flow, blocks, strict=True)]


def _components(motions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The principal components of what moves, (T - 1, M) each."""
    every = np.concatenate(motions)
    mean, std = every.mean(axis=0), every.std(axis=0)
    std = std + 0.1 * std.mean() + 1e-5  # what hardly moves is mostly noise
    scaled = [np.clip((each - mean) / std, -5, 5) for each in motions]
    some = np.concatenate(scaled)[:: max(1, len(every) // 3000)]
    axes = np.linalg.svd(some, full_matrices=False)[2][:_COMPONENTS]
    return [each @ axes.T for each in scaled]


def _motion(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, SIDE, SIDE, 3) -> flow along both axes, change and its amount in each cell: (T - 1, M)."""
    colour = frames.astype(np.float32) / 255
    grey = colour.mean(axis=-1)
    change, middle = grey[1:] - grey[:-1], (grey[1:] + grey[:-1]) / 2
    across, down = np.zeros_like(middle), np.zeros_like(middle)
    across[:, :, 1:-1] = (middle[:, :, 2:] - middle[:, :, :-2]) / 2
    down[:, 1:-1] = (middle[:, 2:] - middle[:, :-2]) / 2
    xx, yy = _cells(across * across) + 1e-4, _cells(down * down) + 1e-4
    xy, xt, yt = _cells(across * down), _cells(across * change), _cells(down * change)
    scale = xx * yy - xy * xy
    flow = [(xy * yt - yy * xt) / scale, (xy * xt - xx * yt) / scale]
    tint = [_cells(each) for each in np.moveaxis(colour[1:] - colour[:-1], -1, 0)]
    return np.concatenate([*(np.clip(each, -3, 3) for each in flow), _cells(np.abs(change)), *tint], axis=1)


def _cells(values: np.ndarray) -> np.ndarray:
    """(T, SIDE, SIDE) -> means over the cells of a grid, (T, cells)."""
    side = SIDE // _CELLS
    return values.reshape(len(values), _CELLS, side, _CELLS, side).mean(axis=(2, 4)).reshape(len(values), -1)


def _blocks(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, SIDE, SIDE, 3) -> where each block is likeliest to have gone, across, down and how far: (T - 1, M).

    Frames are compared with displaced ones, as FlowNet's correlation does (arXiv 1504.06852, section 3)."""
    side = SIDE // 2
    small = frames.astype(np.float32).mean(axis=-1).reshape(len(frames), side, 2, side, 2).mean(axis=(2, 4)) / 255
    before, after = small[:-1], np.pad(small[1:], ((0, 0), (_DOWN, _DOWN), (_ACROSS, _ACROSS)), mode="edge")
    rows, columns = _BLOCKS
    costs, ways = [], []
    for down in range(2 * _DOWN + 1):
        for across in range(2 * _ACROSS + 1):
            off = np.abs(after[:, down : down + side, across : across + side] - before)
            off = off.reshape(len(off), rows, side // rows, columns, side // columns).mean(axis=(2, 4))
            costs.append(off.reshape(len(off), -1))
            ways.append((across - _ACROSS, down - _DOWN, abs(across - _ACROSS)))
    cost = np.stack(costs, axis=1)  # (T - 1, displacements, blocks)
    odds = np.exp(-_SHARP * cost / (cost.mean(axis=1, keepdims=True) + 0.02))
    odds /= odds.sum(axis=1, keepdims=True)
    return np.einsum("tkb,kw->twb", odds, np.array(ways, np.float32)).reshape(len(odds), -1)
