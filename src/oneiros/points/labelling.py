"""Clouds of any size, labelled by a trained segmenter with memory that does not grow with them.

A cloud is first dealt out to square tiles on disk; then each tile is labelled, with what lies around it in sight.

Legend: N points, S cells, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.formats import Cloud, CloudFile, copy_with_labels, open_cloud
from oneiros.data.clouds.relabel import check_paths
from oneiros.disk import new_array, work_folder
from oneiros.points.cells import Cells, attributes_for, make_cells, margin_of, num_channels
from oneiros.points.segmenter import Segmenter
from oneiros.points.tiles import Tiles
from oneiros.records import PointBatch


def load_segmenter(run: Path, *, device: str = "cpu") -> Segmenter:
    """The segmenter of a run folder. ValueError when it is none, or one of other features than those that we know."""
    model = Segmenter.load(run, device=device)
    features, in_dim = model.config.features, model.config.network.in_dim
    if num_channels(features) != in_dim:
        raise ValueError(f"{run}: heights, {', '.join(features)} are not the {in_dim} features that its network takes")
    return model


def label_points(model: Segmenter, cloud: Cloud, needed: np.ndarray | None = None) -> Tensor:
    """Probabilities of the classes of a cloud's points, float32 (N, K), on the CPU.

    needed: bool (N,), points that need them; others only give context and may come out as nan. None: all.
    """
    cells = make_cells(cloud, model.config.network.grid, model.config.features)
    if needed is None:
        return label_cells(model, cells)[cells.inverse]
    needed_cells = torch.zeros(len(cells), dtype=torch.bool)
    needed_cells[cells.inverse[torch.from_numpy(needed)]] = True
    return label_cells(model, cells, needed_cells)[cells.inverse]


def label_cells(model: Segmenter, cells: Cells, needed: Tensor | None = None) -> Tensor:
    """Probabilities of the classes of a cloud's cells, float32 (S, K), on the CPU. needed: bool (S,), as above."""
    xyz = cells.xyz.clone()
    xyz[:, :2] += torch.from_numpy(cells.origin[:2] % model.config.radius)  # receptive fields are fixed in the world
    batch = PointBatch(xyz, cells.features, None, torch.tensor([0, len(cells)])).to(model.mean.device)
    return model.probabilities(batch, needed).cpu()


def label_file(
    model: Segmenter, source: Path, out: Path, *, probabilities: bool = False, track: Track = silent
) -> dict[str, int]:
    """Write a copy of the cloud `source` whose points are classified by `model`; nothing else of it changes.

    probabilities: also write those of each class, as further attributes. Returns how many points each class has.
    Raises ValueError for a cloud that does not fit the model, OSError where the disk takes no more; then there is no
    `out`.
    """
    ((_, counts),) = label_files(model, {source: out}, probabilities=probabilities, track=track)
    return counts


def label_files(
    model: Segmenter, copies: Mapping[Path, Path], *, probabilities: bool = False, track: Track = silent
) -> Iterator[tuple[Path, dict[str, int]]]:
    """Write a copy of each cloud, as `label_file` does, and yield it with its counts once it is written.

    copies: by source. All of their names are checked before the first cloud is labelled.
    """
    for source, out in copies.items():
        check_paths(source, out)
    for source, out in copies.items():
        yield out, _label(model, open_cloud(source), out, probabilities, track)


def _label(model: Segmenter, file: CloudFile, out: Path, probabilities: bool, track: Track) -> dict[str, int]:
    if not file.num_points:
        raise ValueError(f"{file.path}: holds no points to label")
    require_metres(file)
    attributes, names = attributes_for(file, model.config.features), model.config.names
    margin = 2 * model.config.radius + margin_of(model.config.network.grid)  # all of every field that sees a tile
    with work_folder(out) as folder:
        tiles = Tiles.deal(file, attributes, folder, margin=margin, track=track)
        labels = new_array(folder / "labels.npy", np.uint8, (file.num_points,))
        by_class = None
        if probabilities:
            shape = (file.num_points, len(names))
            by_class = new_array(folder / "probabilities.npy", np.float32, shape)
        codes, counts = np.array(model.config.writes, np.uint8), np.zeros(len(names), np.int64)
        advance = track("labelling points", file.num_points)
        for cloud, own, rows in tiles.each():
            found = label_points(model, cloud, own)[torch.from_numpy(own)].numpy()
            best = found.argmax(1)
            labels[rows] = codes[best]
            counts += np.bincount(best, minlength=len(names))
            if by_class is not None:
                by_class[rows] = found
            advance(len(rows))
        copy_with_labels(file, out, labels, probabilities=by_class, class_names=names if probabilities else None)
    return dict(zip(names, counts.tolist(), strict=True))
