"""Memory and time of `oneiros segment` on ever larger clouds, made of tiles repeated side by side.

  python benchmarks/large_cloud.py tiles/*.laz --model runs/segmenter --millions 2.5 5 10

Each cloud is labelled by a process of its own, whose highest resident memory is read afterwards.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import laspy
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--millions", nargs="+", type=float, default=[2.5, 5, 10], help="ascending")
    options = parser.parse_args()
    print(f"{'points':>12}{'seconds':>10}{'points/s':>10}{'memory, MiB':>14}")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for millions in options.millions:
            cloud, labelled = Path(folder) / "cloud.laz", Path(folder) / "labelled.laz"
            count = write_repeated(options.tiles, cloud, int(millions * 1e6))
            began = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "oneiros",
                "segment",
                cloud,
                "--model",
                options.model,
                "--out",
                labelled,
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the highest of all so far
            check(cloud, labelled)
            print(f"{count:>12,}{seconds:>10.0f}{count / seconds:>10,.0f}{memory:>14,.0f}", flush=True)


def write_repeated(tiles: list[Path], out: Path, least: int) -> int:
    """The tiles, one after another, moved onto the places of a square grid until there are `least` points."""
    clouds = [laspy.read(tile) for tile in tiles]
    size = max(np.ptp(cloud.xyz[:, :2], axis=0).max() for cloud in clouds)
    columns = math.ceil(math.sqrt(least / np.mean([len(cloud) for cloud in clouds])))
    header, done = clouds[0].header, 0
    low = np.min([cloud.xyz.min(0) for cloud in clouds], axis=0)
    with laspy.open(out, "w", header=header) as writer:
        place = 0
        while done < least:
            cloud = clouds[place % len(clouds)]
            points = laspy.ScaleAwarePointRecord(
                cloud.points.array.copy(), header.point_format, header.scales, header.offsets
            )
            corner = low[:2] + size * np.array(divmod(place, columns))
            points.x = cloud.xyz[:, 0] - cloud.xyz[:, 0].min() + corner[0]
            points.y = cloud.xyz[:, 1] - cloud.xyz[:, 1].min() + corner[1]
            points.z = cloud.xyz[:, 2]
            writer.write_points(points)
            done, place = done + len(cloud), place + 1
    return done


def check(cloud: Path, labelled: Path) -> None:
    """Every point must have come through, with a class."""
    with laspy.open(cloud) as before, laspy.open(labelled) as after:
        assert before.header.point_count == after.header.point_count
        for some, others in zip(before.chunk_iterator(1_000_000), after.chunk_iterator(1_000_000), strict=True):
            assert np.array_equal(some.X, others.X)
            assert np.isin(np.asarray(others.classification), [2, 3, 4, 5, 6]).all()


if __name__ == "__main__":
    main()
