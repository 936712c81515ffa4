"""Clouds in other landscapes: what is changed keeps its labels, and only what was asked for changes."""

from __future__ import annotations

import numpy as np

from oneiros.points.landscapes import Landscape, changed
from tests.towns import GROUND, HOUSE, town

SAME = Landscape(wide=(1, 1), high=(1, 1), share=(1, 1), slope=(1e-9, 1e-9), echoes=0, side=(1e4, 1e4))


def of_town(landscape: Landscape, seed: int = 0, built=None):
    cloud = town(size=60)
    labels = np.where(cloud.classification == GROUND, 0, np.where(cloud.classification == HOUSE, 2, 1))
    return cloud, labels, *changed(cloud, labels, np.random.default_rng(seed), landscape=landscape, built=built)


def test_nothing_changes_without_a_change():
    cloud, labels, other, told = of_town(SAME)
    np.testing.assert_allclose(other.xyz, cloud.xyz, atol=1e-5)
    assert np.array_equal(told, labels)
    assert all(np.array_equal(other.attributes[name], cloud.attributes[name]) for name in cloud.attributes)


def test_labels_stay_with_their_points_in_any_landscape():
    for seed in range(6):
        cloud, _, other, told = of_town(Landscape(roof=(1e-3, 1e-3)), seed, built=None)
        real = told >= 0
        codes = other.attributes["classification"]
        assert np.array_equal(told[real] == 0, codes[real] == GROUND)
        assert np.array_equal(told[real] == 2, codes[real] == HOUSE)
        assert len(other) <= len(cloud) + 20
        assert (~real).sum() <= 20


def test_hills_are_as_steep_as_asked_at_most():
    hilly = Landscape(**{**vars(SAME), "slope": (0.4, 0.4), "length": (60, 60)})
    cloud, _, other, _ = of_town(hilly)
    rise = other.xyz[:, 2] - cloud.xyz[:, 2]
    near = np.linalg.norm(cloud.xyz[:-1, :2] - cloud.xyz[1:, :2], axis=1)
    slopes = np.abs(np.diff(rise)) / np.maximum(near, 1e-9)
    assert slopes[near > 0.1].max() < 0.4
    assert np.ptp(rise) > 2


def test_a_flat_roof_replaces_what_lies_below_it():
    roofed = Landscape(**{**vars(SAME), "roof": (30, 30), "height": (10, 10), "pitch": 0, "bare": 0})
    seen = 0
    for seed in range(8):
        _, labels, other, told = of_town(roofed, seed, built=(0, 2))
        if len(told) == len(labels) and np.array_equal(told, labels):
            continue
        seen += 1
        roof = np.abs(other.xyz[:, 2] - np.quantile(other.xyz[told == 0, 2], 0.9) - 10) < 0.3
        assert roof.sum() > 100
        assert (told[roof] == 2).mean() > 0.95
        low, high = other.xyz[roof, :2].min(0) + 1, other.xyz[roof, :2].max(0) - 1
        inside = ((other.xyz[:, :2] > low) & (other.xyz[:, :2] < high)).all(1)
        assert (told[inside] == 2).all()
    assert 1 < seen < 8


def test_nothing_but_ground_stays_in_a_bare_landscape():
    _, labels, other, told = of_town(Landscape(**{**vars(SAME), "bare": 1}), built=(0, 2))
    assert (told == 0).all()
    assert len(other) == (labels == 0).sum()


def test_a_seed_decides_the_landscape():
    one, other, third = (of_town(Landscape(), seed)[2].xyz for seed in (3, 3, 4))
    assert np.array_equal(one, other)
    assert len(one) != len(third) or not np.array_equal(one, third)
