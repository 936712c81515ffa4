"""The segmenter, and a random forest, on surveys of another kind than those they learned from.

  python benchmarks/across_surveys.py tiles/*.laz --run RUN [--real other/*.laz] [--forest]

RUN was trained with one of the tiles held out (`oneiros train segmenter tiles/*.laz --held-out TILE`). That tile is
measured as it is and as other surveys might have it: thinned, with intensities multiplied, ranked or blanked, without
returns, with false echoes, at another height above the sea, turned, on hills, stretched until its roofs are wide; and
so are clouds of other landscapes and scanners (`--real`). Classes are ground (2), vegetation (3 to 5), building (6);
the mean IoU is over those that a cloud has. The forest is that of benchmarks/lidar_forest.py, of the same tiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import laspy
import numpy as np

from oneiros import machine
from oneiros.data.clouds.classes import Grouping
from oneiros.data.clouds.formats import Cloud, open_cloud
from oneiros.points.evaluation.confusion import Confusion, three_digits
from oneiros.points.labelling import label_points, load_segmenter
from oneiros.run_folder import read_cloud_origin

CLASSES = Grouping(("ground", "vegetation", "building"), ((2,), (3, 4, 5), (6,)))
FALSE = 7  # the code of low noise: such points are not measured
DEGREES = 37

Change = Callable[[Cloud, np.random.Generator], Cloud]


def part(cloud: Cloud, rows: np.ndarray) -> Cloud:
    return replace(cloud, xyz=cloud.xyz[rows], attributes={k: np.asarray(v)[rows] for k, v in cloud.attributes.items()})


def thinned(density: float) -> Change:
    def change(cloud: Cloud, random: np.random.Generator) -> Cloud:
        places = np.unique(np.floor(cloud.xyz[:, :2] / 2), axis=0)
        share = density * 4 * len(places) / len(cloud)
        return part(cloud, random.random(len(cloud)) < share)

    return change


def having(cloud: Cloud, **attributes: Any) -> Cloud:
    return replace(cloud, attributes={**cloud.attributes, **attributes})


def moved(cloud: Cloud, xyz: np.ndarray) -> Cloud:
    return replace(cloud, xyz=xyz)


def ranked(cloud: Cloud) -> np.ndarray:
    return (65535 * np.argsort(np.argsort(cloud.attributes["intensity"])) / len(cloud)).astype(np.uint16)


def single(cloud: Cloud) -> Cloud:
    ones = np.ones(len(cloud), np.uint8)
    return having(cloud, return_number=ones, number_of_returns=ones)


def photogrammetry(cloud: Cloud, random: np.random.Generator) -> Cloud:
    """First returns alone, on a surface that is smooth to 10 cm, without intensity."""
    seen = part(cloud, np.asarray(cloud.attributes["return_number"]) == 1)
    seen = moved(seen, seen.xyz + random.normal(0, 0.1, seen.xyz.shape))
    return having(single(seen), intensity=np.zeros(len(seen), np.uint16))


def false_echoes(number: int) -> Change:
    """So many points of no class up to 60 m below and above; they come last."""

    def change(cloud: Cloud, random: np.random.Generator) -> Cloud:
        more = part(cloud, random.integers(0, len(cloud), number))
        more = moved(more, more.xyz + np.array([0, 0, 1]) * random.uniform(-60, 60, (number, 1)))
        more = having(more, classification=np.ones(number, np.uint8))
        attributes = {k: np.concatenate([v, more.attributes[k]]) for k, v in cloud.attributes.items()}
        return replace(cloud, xyz=np.concatenate([cloud.xyz, more.xyz]), attributes=attributes)

    return change


def turned(cloud: Cloud, random: np.random.Generator) -> Cloud:
    angle, middle = np.radians(DEGREES), cloud.xyz.mean(0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return moved(cloud, (cloud.xyz - middle) @ turn.T + middle)


def hills(slope: float) -> Change:
    """Waves 150 m long, so steep at their steepest."""

    def change(cloud: Cloud, random: np.random.Generator) -> Cloud:
        wave = 2 * np.pi / 150
        x, y, z = (cloud.xyz - cloud.xyz.min(0)).T
        z = z + slope / wave * np.sin(wave * (0.8 * x + 0.6 * y) + 1)
        return moved(cloud, np.stack([x, y, z], 1) + cloud.xyz.min(0))

    return change


def stretched(by: float) -> Change:
    return lambda cloud, random: moved(cloud, (cloud.xyz - cloud.xyz.min(0)) * (by, by, 1) + cloud.xyz.min(0))


CHANGES: dict[str, Change] = {
    "as it is": lambda cloud, random: cloud,
    "4 points a square metre": thinned(4),
    "2 points a square metre": thinned(2),
    "1 point a square metre": thinned(1),
    "intensity x 20": lambda cloud, random: having(cloud, intensity=np.asarray(cloud.attributes["intensity"]) * 20),
    "intensity / 10": lambda cloud, random: having(cloud, intensity=np.asarray(cloud.attributes["intensity"]) // 10),
    "intensity ranked": lambda cloud, random: having(cloud, intensity=ranked(cloud)),
    "no intensity": lambda cloud, random: having(cloud, intensity=np.zeros(len(cloud), np.uint16)),
    "no returns": lambda cloud, random: single(cloud),
    "photogrammetry": photogrammetry,
    "3 false echoes": false_echoes(3),
    "30 false echoes": false_echoes(30),
    "1,500 m higher": lambda cloud, random: moved(cloud, cloud.xyz + np.array([0, 0, 1500])),
    f"turned by {DEGREES} degrees": turned,
    "hills of 15 %": hills(0.15),
    "hills of 40 %": hills(0.4),
    "2.5 times as wide": stretched(2.5),
}


def clouds(tile: Path, real: list[Path]) -> Iterator[tuple[str, Cloud]]:
    cloud = open_cloud(tile).read_metres()
    for name, change in CHANGES.items():
        yield name, change(cloud, np.random.default_rng(0))
    for path in real:
        yield path.name, open_cloud(path).read_metres()


def measured(truth: np.ndarray, predicted: np.ndarray) -> Confusion:
    confusion = Confusion(len(CLASSES.names))
    confusion.add(truth, predicted)
    return confusion


def present(confusion: Confusion) -> float:
    """The mean IoU over the classes that the truth has."""
    there = np.asarray(confusion.matrix).sum(1) > 0
    return float(np.asarray(confusion.iou)[there].mean())


class Forest:
    """The forest of benchmarks/lidar_forest.py."""

    def __init__(self, tiles: list[Path]) -> None:
        from lidar_forest import TREES
        from sklearn.ensemble import RandomForestClassifier

        parts = [self.features(open_cloud(path).read_metres()) for path in tiles]
        values, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
        self.trees = RandomForestClassifier(TREES, max_samples=0.2, random_state=0)
        self.trees.fit(values[labels >= 0], labels[labels >= 0])

    def features(self, cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
        from lidar_forest import echoes, heights, shapes

        xyz = cloud.xyz - cloud.xyz.min(0)
        points = laspy.ScaleAwarePointRecord.zeros(len(cloud), header=laspy.LasHeader(version="1.4", point_format=6))
        las = laspy.LasData(laspy.LasHeader(version="1.4", point_format=6), points)
        for name in ("intensity", "return_number", "number_of_returns"):
            las[name] = cloud.attributes[name]
        found = heights(xyz) | shapes(xyz) | echoes(las)
        assert cloud.classification is not None
        return np.stack(list(found.values()), 1).astype(np.float32), CLASSES.labels(cloud.classification)

    def predict(self, cloud: Cloud) -> np.ndarray:
        return self.trees.predict(self.features(cloud)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--forest", action="store_true")
    options = parser.parse_args()
    machine.prepare()
    model = load_segmenter(options.run)
    (held_out,) = (Path(path).name for path in read_cloud_origin(options.run).held_out)
    (tile,) = (path for path in options.tiles if path.name == held_out)
    forest = Forest([path for path in options.tiles if path != tile]) if options.forest else None
    print(f"| cloud | ground | vegetation | building | mean IoU |{' forest |' if forest else ''}")
    print(f"|---|---|---|---|---|{'---|' if forest else ''}")
    found: dict[str, np.ndarray] = {}
    for name, cloud in clouds(tile, options.real):
        assert cloud.classification is not None
        truth = CLASSES.labels(cloud.classification)
        found[name] = label_points(model, cloud).argmax(1).numpy()
        confusion = measured(truth, found[name])
        row = [*map(three_digits, np.asarray(confusion.iou).tolist()), f"**{present(confusion):.3f}**"]
        row += [f"{present(measured(truth, forest.predict(cloud))):.3f}"] if forest else []
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    plain = found["as it is"]
    for name in (name for name in found if "false echoes" in name):
        print(f"with {name}, {(found[name][: len(plain)] == plain).mean():.2%} of the labels are those without")


if __name__ == "__main__":
    main()
