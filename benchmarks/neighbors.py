"""How fast neighbours are found, beside scipy's cKDTree with all cores, and points are averaged per cell.

    python benchmarks/neighbors.py                      points spread evenly in a cube
    python benchmarks/neighbors.py tile1.laz tile2.laz  lidar, side by side until enough; also shuffled

Runs the tests of neighbours first and prints no figures when they fail. Both sides build and query, in turns; a row
shows the best of each and their ratio.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from oneiros.ops.farthest_points import farthest_points
from oneiros.ops.grid_subsample import grid_subsample
from oneiros.ops.neighbors import knn
from oneiros.ops.receptive_fields import receptive_fields

TESTS = Path(__file__).parents[1] / "tests" / "ops" / "test_neighbors.py"
GAP = 20.0  # metres between copies of the lidar


def lidar(paths: list[str], num: int) -> Tensor:
    """Float64 (num, 3), in the order of the files."""
    from oneiros.data.clouds.formats import open_cloud

    tiles = np.concatenate([open_cloud(path).read().xyz for path in paths])
    step = np.array([np.ptp(tiles[:, 0]) + GAP, 0.0, 0.0])
    return torch.from_numpy(np.concatenate([tiles + copy * step for copy in range(-(-num // len(tiles)))])[:num])


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def beside_scipy(name: str, points: Tensor, k: int, rounds: int) -> None:
    array = points.double().numpy()
    times = [
        (
            seconds(lambda: knn(points, points, k)),
            seconds(lambda: cKDTree(array).query(array, k, workers=-1)),
        )
        for _ in range(rounds)
    ]
    ours, theirs = (min(column) for column in zip(*times, strict=True))
    ratios = ", ".join(f"{other / mine:.2f}" for mine, other in times)
    print(
        f"{name:28} k={k:<3} {ours:7.2f} s   scipy {theirs:7.2f} s   {theirs / ours:5.2f} x   (rounds: {ratios})",
        flush=True,
    )


def alone(name: str, call: Callable[[], object]) -> None:
    """Elapsed and processor seconds: on a busy machine only the latter say much."""
    before = time.process_time()
    elapsed = seconds(call)
    print(f"{name:72} {elapsed:7.2f} s   {time.process_time() - before:7.2f} s of processor", flush=True)


def others(points: Tensor, many: Tensor) -> None:
    features, labels = torch.rand(len(many), 4), torch.randint(-1, 6, (len(many),))
    for cell in (0.4, 2.0):
        name = f"grid_subsample, {len(many):,} points, 4 features, labels, cell {cell}"
        alone(name, lambda: grid_subsample(many, cell, features=features, labels=labels))  # noqa: B023
    coarse = grid_subsample(points, 2.0).xyz
    alone(f"nearest, {len(points):,} among {len(coarse):,}", lambda: knn(coarse, points, 1))
    few = points[:: max(len(points) // 20_000, 1)]
    alone(f"farthest_points, 1,000 of {len(few):,}", lambda: farthest_points(few, 1000))
    alone(f"receptive_fields, {len(points):,} points, radius 10", lambda: list(receptive_fields(points, 10.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="*")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-k", type=int, default=16)
    given = parser.parse_args()
    if subprocess.run([sys.executable, "-m", "pytest", "-q", str(TESTS)], capture_output=True).returncode:
        sys.exit(f"{TESTS} fails: no figures")
    torch.set_num_threads(os.cpu_count() or 1)  # as many as scipy takes
    torch.manual_seed(0)
    points = lidar(given.clouds, given.points) if given.clouds else torch.rand(given.points, 3) * 100
    knn(points[:1000], points[:1000], given.k)  # compiles
    beside_scipy("lidar, in the file's order" if given.clouds else "even", points, given.k, given.rounds)
    if given.clouds:
        beside_scipy("lidar, shuffled", points[torch.randperm(len(points))], given.k, given.rounds)
    others(points, torch.cat([points + copy * 0.01 for copy in range(5)]))


if __name__ == "__main__":
    main()
