"""Points: the KPConvX layer alone, then a segmenter that learns to tell ground, walls and trees in clouds made here.

    python examples/07_points.py [FOLDER]

Needs nothing from the other examples. Real lidar takes the same two calls at the end, or the same two commands:
`oneiros train segmenter tiles/*.laz --out runs/segmenter` and `oneiros segment cloud.laz --model runs/segmenter ...`.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.ops.neighbors import knn
from oneiros.points import KPConvX
from oneiros.points import training as segmenter
from oneiros.points.labelling import label_file, load_segmenter

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples") / "points"
folder.mkdir(parents=True, exist_ok=True)

# The layer: a receptive field of 500 points, each looking at its 16 nearest.
points, features = torch.rand(1, 500, 3), torch.randn(1, 500, 32)
neighbors = knn(points[0], points[0], 16)[0][None]
layer = KPConvX(channels=32, blocks=2, hidden_channels=128, sigma=0.2, shell_radii=(0, 0.1, 0.2))
print(f"{layer.num_kernel_points} kernel points, {tuple(layer(points, features, neighbors).shape)} come out")


def scene(seed: int) -> Cloud:
    """A street: flat ground (2), a round tree (5), a house of four walls and a roof (6); 30 m x 30 m."""
    draw = np.random.default_rng(seed)
    ground = draw.uniform(0, 30, (6000, 3)) * (1, 1, 0)
    ball = draw.normal(size=(3000, 3))
    tree = ball / np.linalg.norm(ball, axis=1, keepdims=True) * draw.uniform(1, 3, (3000, 1)) + draw.uniform(4, 26, 3)
    tree[:, 2] += 4 - tree[:, 2].min()
    house = draw.uniform(0, 1, (5000, 3))
    side = draw.integers(5, size=5000)
    house[side < 4, side[side < 4] // 2] = side[side < 4] % 2
    house[side == 4, 2] = 1
    house = house * (8, 8, 5) + [*draw.uniform(2, 20, 2), 0]
    codes = np.repeat(np.array([2, 5, 6], np.uint8), (6000, 3000, 5000))
    return Cloud(np.concatenate([ground, tree, house]) + np.array([500_000, 6_000_000, 40]), {"classification": codes})


tiles = [folder / f"tile_{seed}.laz" for seed in range(4)]
for seed, tile in enumerate(tiles):
    write_cloud(tile, scene(seed))

run = folder / "run"
segmenter.run(segmenter.SegmenterSettings(clouds=tuple(tiles), classes="2,5,6", out=run, preset="tiny", grid=0.5))
print(label_file(load_segmenter(run), tiles[-1], folder / "labelled.laz"))
truth, labels = (open_cloud(path).read().classification for path in (tiles[-1], folder / "labelled.laz"))
print(f"{(truth == labels).mean():.0%} of a scene it never saw are labelled right")
