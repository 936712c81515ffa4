"""Clouds of any size, labelled by a trained segmenter with memory that does not grow with them.

A cloud is first dealt out to square tiles on disk; then each tile is labelled, with what lies around it in sight.

Legend: N points, S cells, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oneiros.console import Track, silent
from oneiros.data.clouds.checks import require_metres
from oneiros.data.clouds.cloud import CLASSIFICATION
from oneiros.data.clouds.formats import Cloud, CloudFile, copy_with_labels, open_cloud
from oneiros.data.clouds.relabel import check_paths, check_range
from oneiros.disk import new_array, work_folder
from oneiros.points.cells import Cells, attributes_for, make_cells, margin_of, num_channels
from oneiros.points.profile import NOISE, CloudProfile
from oneiros.points.segmenter import Segmenter
from oneiros.points.tiles import Tiles
from oneiros.records import PointBatch

UNCLASSIFIED = 1  # code of points whose class is not told


def load_segmenter(run: Path, *, device: str = "cpu") -> Segmenter:
    """The segmenter of a run folder. ValueError when it is none, or one of other features than those that we know."""
    model = Segmenter.load(run, device=device)
    features, in_dim = model.config.features, model.config.network.in_dim
    if num_channels(features) != in_dim:
        raise ValueError(f"{run}: heights, {', '.join(features)} are not the {in_dim} features that its network takes")
    return model


def label_points(
    model: Segmenter, cloud: Cloud, needed: np.ndarray | None = None, profile: CloudProfile | None = None
) -> Tensor:
    """Probabilities of the classes of a cloud's points, float32 (N, K), on the CPU.

    cloud: in metres. needed: bool (N,), points that need them; others only give context and may come out as nan. None:
        all. profile: of the whole cloud, where this is a part.
    """
    cells = make_cells(cloud, model.config.network.grid, model.config.features, profile=profile)
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


@dataclass(frozen=True)
class Labelling:
    """What is written for a point beside its likeliest class.

    probabilities: those of each class, as further attributes, with their entropy and margin. keep: classification
        codes whose points stay as they are.
    unsure: points whose likeliest class has a lower probability than this are written as 1, unclassified.
    """

    probabilities: bool = False
    keep: tuple[int, ...] = NOISE
    unsure: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.unsure <= 1:
            raise ValueError(f"--unsure is {self.unsure}; it is a probability, from 0 to 1")


def label_file(
    model: Segmenter,
    source: Path,
    out: Path,
    *,
    how: Labelling | None = None,
    profile: CloudProfile | None = None,
    around: Sequence[Path] = (),
    columns: str = "",
    track: Track = silent,
) -> dict[str, int]:
    """Write a copy of the cloud `source` whose points are classified by `model`; nothing else of it changes.

    how: what is written, by default `Labelling()`. profile: of the cloud, or of the survey that it is a tile of, where
        it is known already. around: neighbouring tiles, whose edges are looked at where they have what is needed.
    columns: of texts, see `open_cloud`.
    Strays, far from all other points, are written as 1, unclassified. Returns how many points each class has, and how
    many were kept, unsure or strays, where any were. An empty cloud is copied.
    Raises ValueError for a cloud that does not fit the model, OSError where the disk takes no more; then there is no
    `out`.
    """
    check_paths(source, out)
    file = open_cloud(source, columns)
    if not file.num_points:
        copy_with_labels(file, out, np.empty(0, np.int64))
        return {}
    check(model, file)
    profile = profile or CloudProfile.of_file(file)
    others = [open_cloud(path, columns) for path in around]
    return _label(model, file, out, how or Labelling(), profile, others, track)


def margin_around(model: Segmenter) -> float:
    """How far around a point is looked, in metres: all of every field that sees it, and what those cells look at."""
    return 2 * model.config.radius + margin_of(model.config.network.grid, model.config.features)


def check(model: Segmenter, file: CloudFile) -> None:
    """ValueError for a cloud that the model cannot label, or that cannot hold its classes; reads no points of LAS."""
    require_metres(file)
    attributes_for(file, model.config.features)
    check_range(np.array([*model.config.writes, UNCLASSIFIED]), file.highest_class, f"{file.path.name} holds classes")


def _label(
    model: Segmenter,
    file: CloudFile,
    out: Path,
    how: Labelling,
    profile: CloudProfile,
    around: Sequence[CloudFile],
    track: Track,
) -> dict[str, int]:
    attributes, names = attributes_for(file, model.config.features), model.config.names
    near = [each for each in around if set(attributes) <= set(each.attribute_names)]
    with work_folder(out) as folder:
        tiles = Tiles.deal(
            file, attributes, folder, profile=profile, margin=margin_around(model), around=near, track=track
        )
        labels = new_array(folder / "labels.npy", np.uint8, (file.num_points,))
        labels[:] = UNCLASSIFIED
        by_class = None
        if how.probabilities:
            by_class = new_array(folder / "probabilities.npy", np.float32, (file.num_points, len(names)))
        counts = np.zeros(len(names) + 3, np.int64)
        advance = track("labelling points", file.num_points)
        for cloud, own, rows in tiles.each():
            found = label_points(model, cloud, own, profile)[torch.from_numpy(own)].numpy()
            codes = cloud.attributes.get(CLASSIFICATION)
            labels[rows], numbers = _written(model, found, None if codes is None else codes[own], how)
            counts += np.bincount(numbers, minlength=len(counts))
            if by_class is not None:
                by_class[rows] = found
            advance(len(rows))
        counts[-1] = file.num_points - counts.sum()
        copy_with_labels(file, out, labels, probabilities=by_class, class_names=names if how.probabilities else None)
    told = zip((*names, *_OTHERS), counts.tolist(), strict=True)
    return {name: count for number, (name, count) in enumerate(told) if count or number < len(names)}


def _written(
    model: Segmenter, chances: np.ndarray, codes: np.ndarray | None, how: Labelling
) -> tuple[np.ndarray, np.ndarray]:
    """The codes of points, and the number of what they are counted as: a class, kept, unsure."""
    numbers = chances.argmax(1)
    written = np.array(model.config.writes, np.uint8)[numbers]
    unsure = chances.max(1) < how.unsure
    written[unsure], numbers[unsure] = UNCLASSIFIED, model.num_classes + 1
    if codes is not None:
        kept = np.isin(codes, how.keep)
        written[kept], numbers[kept] = codes[kept], model.num_classes
    return written, numbers


_OTHERS = ("kept", "unsure", "strays")
