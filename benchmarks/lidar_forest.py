"""What a random forest on hand-made features makes of airborne lidar: the baseline the segmenter is measured against.

    python benchmarks/lidar_forest.py TILES...          LAS or LAZ files, at least two

Each tile is classified by a forest (100 trees) that learned from all other tiles. Classes are ground (2), vegetation
(3 to 5) and building (6); points of other classes shape the features of their neighbours but are neither learned from
nor measured. A tile's features see that tile alone. Needs scikit-learn and the extra `points`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import laspy
import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import KDTree
from sklearn.ensemble import RandomForestClassifier

from oneiros.points.evaluation.confusion import Confusion, three_digits

CLASSES = {"ground": (2,), "vegetation": (3, 4, 5), "building": (6,)}
CELL = 0.5  # metres, of the raster in which lowest and highest points are looked up
WINDOWS = (2.5, 5.5, 10.5, 20.5)  # metres, odd numbers of cells
NEIGHBOURS = (10, 40, 150)
TREES = 100

Features = dict[str, np.ndarray]


def read(path: Path) -> tuple[Features, np.ndarray]:
    """Features by name, each (N,), and labels (N,), -1 for points that do not count."""
    cloud = laspy.read(path)
    xyz = np.asarray(cloud.xyz) - cloud.header.mins  # eigenvectors want small numbers
    labels = np.full(len(xyz), -1)
    for label, codes in enumerate(CLASSES.values()):
        labels[np.isin(np.asarray(cloud.classification), codes)] = label
    return heights(xyz) | shapes(xyz) | echoes(cloud), labels


def heights(xyz: np.ndarray) -> Features:
    """Height above the lowest and below the highest point of square windows around a point's cell."""
    z = xyz[:, 2]
    cells = (xyz[:, :2] / CELL).astype(int)
    at, size = tuple(cells.T), cells.max(axis=0) + 1
    lowest, highest = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(lowest, at, z)
    np.maximum.at(highest, at, z)
    features = {}
    for window in WINDOWS:
        width = round(window / CELL)
        features[f"above lowest in {window:g} m"] = z - minimum_filter(lowest, width)[at]
        features[f"below highest in {window:g} m"] = maximum_filter(highest, width)[at] - z
    return features


def shapes(xyz: np.ndarray) -> Features:
    """How a point's nearest neighbours lie: eigenvalues and normal of their covariance, at several scales."""
    distances, nearest = map(np.asarray, KDTree(xyz).query(xyz, max(NEIGHBOURS), workers=-1))
    features = {}
    for count in NEIGHBOURS:
        around = xyz[nearest[:, :count]]
        around -= around.mean(axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around) / count)
        small, middle, large = np.maximum(values, 1e-9).T
        shape = {
            "linearity": (large - middle) / large,
            "planarity": (middle - small) / large,
            "sphericity": small / large,
            "curvature": small / (small + middle + large),
            "verticality": 1 - np.abs(vectors[:, 2, 0]),
            "radius": distances[:, count - 1],
        }
        features |= {f"{name}, {count} nearest": value for name, value in shape.items()}
    return features


def echoes(cloud: laspy.LasData) -> Features:
    """What the scanner says of a point's own pulse."""
    number, total = np.asarray(cloud.return_number, float), np.asarray(cloud.number_of_returns, float)
    return {"intensity": np.asarray(cloud.intensity, float), "returns": total, "returns behind": total - number}


def fold(
    tiles: list[tuple[np.ndarray, np.ndarray]], tested: int, *, share: float, seed: int
) -> tuple[Confusion, np.ndarray]:
    """Learn from all tiles but one, classify that one; also how much each feature mattered."""
    others = [tile for k, tile in enumerate(tiles) if k != tested]
    values, labels = (np.concatenate(parts) for parts in zip(*others, strict=True))
    forest = RandomForestClassifier(TREES, max_samples=share, n_jobs=-1, random_state=seed)
    forest.fit(values[labels >= 0], labels[labels >= 0])
    confusion = Confusion(len(CLASSES))
    values, labels = tiles[tested]
    confusion.add(labels, forest.predict(values))
    return confusion, forest.feature_importances_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="+")
    parser.add_argument("--share", type=float, default=1.0, help="of the points, drawn for each tree; 0.2 is quick")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.tiles) < 2:
        parser.error("one tile leaves nothing to learn from; give at least two")
    read_tiles = [read(path) for path in options.tiles]
    names = list(read_tiles[0][0])
    tiles = [(np.stack(list(features.values()), axis=1).astype(np.float32), labels) for features, labels in read_tiles]
    print(f"{len(names)} features, {TREES} trees\n\n| tile | {' | '.join(CLASSES)} | mIoU | accuracy | seconds |")
    print(f"|---|{'---|' * (len(CLASSES) + 3)}")
    mattered = np.zeros(len(names))
    for k, path in enumerate(options.tiles):
        began = time.perf_counter()
        confusion, importance = fold(tiles, k, share=options.share, seed=options.seed)
        mattered += importance / len(tiles)
        figures = " | ".join(
            three_digits(value) for value in (*confusion.iou.tolist(), confusion.miou, confusion.accuracy)
        )
        print(f"| {path.stem} | {figures} | {time.perf_counter() - began:.0f} |", flush=True)
    print("\n| feature | importance |\n|---|---|")
    for k in mattered.argsort()[::-1]:
        print(f"| {names[k]} | {mattered[k]:.3f} |")


if __name__ == "__main__":
    main()
