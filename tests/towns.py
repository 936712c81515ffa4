"""Small made-up clouds as airborne lidar sees them: flat ground, boxes for houses, noisy balls for trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from oneiros.data.clouds.formats import Cloud, write_cloud
from oneiros.points.cells import Cells, make_cells
from oneiros.points.nn.unet import PRESETS
from oneiros.points.segmenter import Segmenter, SegmenterConfig
from oneiros.records import PointBatch

CORNER = np.array([770_500.0, 6_277_500.0, 100.0])  # as large as projected coordinates are
GROUND, LOW, TREE, HOUSE = 2, 3, 5, 6
CODES = "2,3-5,6"


def town(seed: int = 0, *, size: float = 40.0, spacing: float = 0.7, houses: int = 3, trees: int = 6) -> Cloud:
    """Ground at 100 m, houses 5 m high, trees up to 7 m high, shrubs; mixed order, coordinates in millimetres."""
    random = np.random.default_rng(seed)
    ground = np.stack(np.meshgrid(*[np.arange(0, size, spacing)] * 2), -1).reshape(-1, 2)
    ground = np.c_[ground + random.uniform(-0.3, 0.3, ground.shape) * spacing, random.normal(0, 0.05, len(ground))]
    ground[:, :2] = ground[:, :2].clip(0, size)
    codes = np.full(len(ground), GROUND)
    for place in random.uniform(6, size - 6, (houses, 2)):
        inside = (np.abs(ground[:, :2] - place) < 4).all(1)
        ground[inside, 2], codes[inside] = 5, HOUSE
    parts, told = [ground], [codes]
    for place in random.uniform(3, size - 3, (trees, 2)):
        ball = random.normal(0, 1, (150, 3))
        ball *= 2.2 / np.linalg.norm(ball, axis=1, keepdims=True) * random.uniform(0.7, 1, (150, 1))
        parts.append(ball + np.array([*place, 4.5]))
        told.append(np.where(ball[:, 2] < -1.5, LOW, TREE))
    xyz, codes = np.concatenate(parts), np.concatenate(told)
    order = random.permutation(len(xyz))
    return _measured(np.round(xyz[order] + CORNER, 3), codes[order], random)


def _measured(xyz: np.ndarray, codes: np.ndarray, random: np.random.Generator) -> Cloud:
    """With what a scanner adds: roofs are bright, leaves let a pulse through, grass is green and roofs are red."""
    leaves, roof = np.isin(codes, (LOW, TREE)), codes == HOUSE
    count = np.where(leaves, random.integers(1, 4, len(xyz)), 1)
    attributes = {
        "intensity": (800 + 400 * roof + random.integers(0, 200, len(xyz))).astype(np.uint16),
        "return_number": np.minimum(random.integers(1, 4, len(xyz)), count).astype(np.uint8),
        "number_of_returns": count.astype(np.uint8),
        "red": np.where(roof, 40_000, 10_000).astype(np.uint16),
        "green": np.where(roof, 12_000, 30_000).astype(np.uint16),
        "blue": random.integers(8_000, 9_000, len(xyz)).astype(np.uint16),
        "classification": codes.astype(np.uint8),
    }
    return Cloud(xyz, attributes)


def part_of(cloud: Cloud, rows: np.ndarray) -> Cloud:
    """Some of a cloud's points. rows: bool or int."""
    return replace(cloud, xyz=cloud.xyz[rows], attributes={name: each[rows] for name, each in cloud.attributes.items()})


def having(cloud: Cloud, **attributes: np.ndarray | None) -> Cloud:
    """A cloud with other attributes; None takes one away."""
    values = {**cloud.attributes, **attributes}
    return replace(cloud, attributes={name: each for name, each in values.items() if each is not None})


def write_town(path: Path, seed: int = 0, **options) -> Path:
    write_cloud(path, town(seed, **options))
    return path


def segmenter_config(features: tuple[str, ...] = ("intensity", "returns"), **options) -> SegmenterConfig:
    """A config of the smallest network for towns: ground, vegetation, building."""
    means = {"intensity": [1000.0], "returns": [1.0, 1.0], "colour": [0.3] * 3}
    mean = [2.0, 2.0, *(value for name in features for value in means[name])]
    network = replace(PRESETS["tiny"], dims=(16, 32), depths=(1, 1), num_neighbors=(8, 8), in_dim=len(mean), grid=1.0)
    defaults = {
        "names": ("ground", "vegetation", "building"),
        "codes": ((2,), (3, 4, 5), (6,)),
        "writes": (2, 5, 6),
        "features": features,
        "mean": tuple(mean),
        "std": (2.0,) * len(mean),
        "class_weights": (0.5, 1.0, 1.5),
        "radius": 12.0,
        "network": replace(network, num_classes=3),
    }
    return SegmenterConfig(**{**defaults, **options})


def make_segmenter(config: SegmenterConfig | None = None) -> Segmenter:
    """Untrained, with seeded weights such that each class is the likeliest in some places of a town."""
    torch.manual_seed(0)
    model = Segmenter(config or segmenter_config()).eval()
    cells = make_cells(town(), model.config.network.grid, model.config.features)
    head = model.network.head[-1]
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        logits = model.network(_normalised(model, cells))
        head.weight *= 3 / logits.std(0)[:, None]
        head.bias -= logits.mean(0)
        head.bias *= 3 / logits.std(0)
    return model


def _normalised(model: Segmenter, cells: Cells) -> PointBatch:
    return PointBatch(cells.xyz, (cells.features - model.mean) / model.std, None, torch.tensor([0, len(cells)]))


def save_segmenter(run: Path, config: SegmenterConfig | None = None) -> Path:
    make_segmenter(config).save(run)
    return run
