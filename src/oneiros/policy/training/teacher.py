"""Features of geometry that a policy is aligned with, of every row: a point network's, trained to segment depth images.

Spatial Forcing (arXiv 2510.12276) takes the features of a large frozen geometry network for a teacher. Ours is the
KPConvX encoder of `points.nn.encoder`, trained on the dataset's own label images; the features of the points in each
cell of the world's grid are averaged.

Legend: B images, H x W pixels, P points of all images, N cells of the world's grid, G width of the teacher's features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oneiros.console import bars, say
from oneiros.data.episodes.clips import spread
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import resize_nearest
from oneiros.disk import alone, check_room, new_array, read_array, replacing
from oneiros.points.nn.encoder import PointEncoder
from oneiros.policy.training.depths import Depths

WIDTH = 64  # G
_FEATURES, _MASK = "teacher.npy", "known.npy"
_IMAGES = 8  # at once
_RATE = 3e-3
_MEASURED = 64  # images that the teacher is measured on, and whose features give their mean and standard deviation


@dataclass(frozen=True)
class Teacher:
    """features: float16 (rows, N, G) of all episodes one after another. mask: bool (rows, N), where there are points.
    first: the row at which each episode begins, and the end."""

    features: np.ndarray
    mask: np.ndarray
    first: np.ndarray

    def of(self, places: Sequence[tuple[int, int]], offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
        """float32 (B, T, N, G) and bool (B, T, N) of the rows at `offsets` from each (place of the episode, row).

        Rows before an episode are its first; beyond its end the mask is False.
        """
        rows = np.array([row for _, row in places])[:, None] + np.array(offsets)
        begins, ends = (np.array([self.first[place + k] for place, _ in places])[:, None] for k in (0, 1))
        absolute = begins + np.maximum(rows, 0)
        inside = absolute < ends
        absolute = np.minimum(absolute, ends - 1)
        features = torch.from_numpy(self.features[absolute]).float()
        return features, torch.from_numpy(self.mask[absolute] & inside[..., None])


def cached_teacher(
    cache: Path, dataset: Dataset, depths: Depths, *, grid: tuple[int, int], steps: int, seed: int
) -> Teacher:
    """Features of every row, by a point network trained for `steps` steps; kept in `cache`, or found there.

    grid: rows and columns of cells. ValueError for a dataset without label images.
    """
    labels = dataset.camera(kind="labels")
    config = {
        "data": dataset.fingerprint(),
        "cameras": [depths.recorded.name, labels.name],
        "size": [depths.shown.height, depths.shown.width],
        "grid": list(grid),
        "steps": steps,
        "seed": seed,
        "episodes": [episode.index for episode in depths.episodes],
    }
    folder = cache / f"teacher-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:16]}"
    with alone(folder):
        if not folder.is_dir():
            _write(folder, config, dataset, depths, grid, steps=steps, seed=seed)
    first = np.cumsum([0, *(len(episode.content) for episode in depths.episodes)])
    try:
        shape = (int(first[-1]), grid[0] * grid[1])
        features = read_array(folder / _FEATURES, np.float16, (*shape, WIDTH))
        mask = read_array(folder / _MASK, np.bool_, shape)
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it and train again") from error
    return Teacher(features, mask, first)


class _PointSegmenter(nn.Module):
    """Points to classes, by the features that are kept."""

    def __init__(self, num_classes: int, max_depth: float) -> None:
        super().__init__()
        self.encoder = PointEncoder(dim=1, num_tokens=1, channels=WIDTH, max_depth=max_depth)
        self.classify = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes))

    def forward(self, depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (P, G), logits (P, classes), and the pixels (P,) into depth.flatten()."""
        points, pixels = self.encoder.points(depth, intrinsics)
        features = self.encoder.point_features(points)
        return features, self.classify(features), pixels


def _write(
    folder: Path, config: dict, dataset: Dataset, depths: Depths, grid: tuple[int, int], *, steps: int, seed: int
) -> None:
    """The folder appears whole or not at all."""
    rows, cells = sum(len(episode.content) for episode in depths.episodes), grid[0] * grid[1]
    say(check_room(folder.parent, rows * cells * (2 * WIDTH + 1), f"geometry of {rows:,} rows take", there=True))
    with replacing(folder, "features") as temporary:
        temporary.mkdir()
        segmenter = _train(dataset, depths, steps=steps, seed=seed)
        features = new_array(temporary / _FEATURES, np.float16, (rows, cells, WIDTH))
        mask = new_array(temporary / _MASK, np.bool_, (rows, cells))
        _fill(segmenter, depths, grid, features, mask)
        features.flush()
        mask.flush()
        (temporary / "teacher.json").write_text(json.dumps(config, indent=1))


def _train(dataset: Dataset, depths: Depths, *, steps: int, seed: int) -> _PointSegmenter:
    """A segmenter of the dataset's label images, trained on all episodes but the last tenth, which measure it.

    A loop of its own: of processes that train a policy together, one makes the cache while the others wait for it.
    """
    height, width = depths.shown.height, depths.shown.width
    labels = [resize_nearest(dataset.labels(each.index), height, width) for each in depths.episodes]
    num_classes = 1 + max(int(each.max()) for each in labels)
    places = [(place, row) for place, each in enumerate(labels) for row in range(len(each))]
    measured = places[-max(1, len(places) // 10) :]
    learned = places[: -len(measured)] or measured
    torch.manual_seed(seed)
    segmenter, random = _PointSegmenter(num_classes, depths.max_depth), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=max(steps, 1) + 1, pct_start=0.1)
    intrinsics = torch.tensor(depths.intrinsics)

    def classes(chosen: Sequence[tuple[int, int]]) -> Tensor:
        return torch.from_numpy(np.stack([labels[place][row] for place, row in chosen]).astype(np.int64)).flatten()

    with bars(transient=True) as track:
        advance = track("teaching geometry", steps)
        for _ in range(steps):
            chosen = [learned[number] for number in random.integers(len(learned), size=_IMAGES)]
            _, logits, pixels = segmenter(depths.metres(chosen), intrinsics)
            if len(pixels):
                optimizer.zero_grad()
                F.cross_entropy(logits, classes(chosen)[pixels]).backward()
                optimizer.step()
                schedule.step()
            advance(1)
    segmenter.eval()
    right = total = 0
    with torch.no_grad():
        for number in spread(_MEASURED, len(measured)):
            _, logits, pixels = segmenter(depths.metres([measured[number]]), intrinsics)
            right += int((logits.argmax(1) == classes([measured[number]])[pixels]).sum())
            total += len(pixels)
    if not total:
        raise ValueError(f"{dataset.path}: {depths.recorded.name} sees nothing within {depths.max_depth:g} m")
    say(f"the teacher of geometry tells {right / total:.1%} of unseen points apart, {num_classes} classes")
    return segmenter


@torch.no_grad()
def _fill(
    segmenter: _PointSegmenter, depths: Depths, grid: tuple[int, int], features: np.ndarray, mask: np.ndarray
) -> None:
    """Fill `features` and `mask` for every row: the mean feature of the points in each cell, standardised, because what
    all points share would make any two features look alike."""
    places = [(place, row) for place, each in enumerate(depths.episodes) for row in range(len(each.content))]
    looked = [places[number] for number in spread(_MEASURED, len(places))]
    sample = torch.cat([segmenter(depths.metres([place]), torch.tensor(depths.intrinsics))[0] for place in looked])
    mean, std = sample.mean(0), sample.std(0, correction=0).clamp_min(1e-6)
    with bars(transient=True) as track:
        advance = track("telling geometry", len(places))
        for first in range(0, len(places), _IMAGES):
            chosen = places[first : first + _IMAGES]
            cells, there = _cells(segmenter, depths.metres(chosen), depths.intrinsics, grid, mean, std)
            features[first : first + len(chosen)], mask[first : first + len(chosen)] = cells.half(), there
            advance(len(chosen))


def _cells(
    segmenter: _PointSegmenter,
    depth: Tensor,
    intrinsics: Sequence[float],
    grid: tuple[int, int],
    mean: Tensor,
    std: Tensor,
) -> tuple[Tensor, Tensor]:
    """Features (B, N, G) and where there are points (B, N), of depth (B, H, W)."""
    points, _, pixels = segmenter(depth, torch.tensor(intrinsics))
    (images, height, width), (rows, columns) = depth.shape, grid
    image, place = pixels // (height * width), pixels % (height * width)
    row, column = place // width * rows // height, place % width * columns // width
    cell = (image * rows + row) * columns + column
    count = torch.bincount(cell, minlength=images * rows * columns)
    total = torch.zeros(len(count), WIDTH).index_add_(0, cell, ((points - mean) / std).float())
    mean_of_cell = total / count.clamp_min(1)[:, None]
    return mean_of_cell.unflatten(0, (images, -1)), (count > 0).unflatten(0, (images, -1))
