"""Clouds averaged over cells: heights above the ground around, and cells that do not know where a cloud was cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.points.cells import features_of, make_cells, margin_of, num_channels
from tests.towns import CORNER, having, part_of, town

FEATURES = ("intensity", "returns", "colour")


def surface(heights, *, size: float = 60.0, spacing: float = 0.25, corner=CORNER) -> Cloud:
    """One point every `spacing` metres, as high as heights(x, y) says."""
    x, y = np.meshgrid(*[np.arange(spacing / 2, size, spacing)] * 2)
    return Cloud(np.stack([x, y, heights(x, y)], -1).reshape(-1, 3) + corner, {})


def heights_at(cloud: Cloud, x: float, y: float, grid: float = 0.5) -> tuple[float, float]:
    """Above the lowest ground nearby and further off, of the cell at this place."""
    cells = make_cells(cloud, grid, ())
    point = np.abs(cloud.xyz[:, :2] - CORNER[:2] - (x, y)).sum(1).argmin()
    near, far = cells.features[cells.inverse[point]].tolist()
    return near, far


def test_heights_above_flat_ground():
    def houses(x, y):
        small = (np.abs(x - 15) < 3) & (np.abs(y - 15) < 3)
        return np.where(small, 4.0, 0.0) + np.where((x > 30) & (x < 54) & (y > 20) & (y < 44), 9.0, 0.0)

    cloud = surface(houses)
    assert heights_at(cloud, 10, 50) == pytest.approx((0, 0), abs=1e-4)
    assert heights_at(cloud, 15, 15) == pytest.approx((4, 4), abs=1e-4)
    assert heights_at(cloud, 31, 32) == pytest.approx((9, 9), abs=1e-4)  # beside the wall
    assert heights_at(cloud, 42, 32) == pytest.approx((0, 9), abs=1e-4)  # amid a roof as wide as a field


def test_heights_follow_the_ground():
    """The same house on a plain and, on the same tile, on a terrace 20 m above it."""

    def terraces(x, y):
        house = (np.abs(x - 10) < 3) | (np.abs(x - 50) < 3)
        return np.where(x > 30, 20.0, 0.0) + np.where(house & (np.abs(y - 30) < 3), 5.0, 0.0)

    cloud = surface(terraces)
    assert heights_at(cloud, 10, 30) == pytest.approx((5, 5), abs=1e-4)
    assert heights_at(cloud, 50, 30)[0] == pytest.approx(5, abs=1e-4)
    assert heights_at(cloud, 56, 10) == pytest.approx((0, 0), abs=1e-4)  # 26 m from the lower terrace
    assert heights_at(cloud, 40, 10) == pytest.approx((0, 20), abs=1e-4)


def test_an_echo_from_below_is_no_ground():
    cloud = surface(lambda x, y: 0 * x)
    below = Cloud(np.concatenate([cloud.xyz, [CORNER + np.array([20.1, 20.1, -30])]]), {})
    assert heights_at(below, 22, 20) == pytest.approx((0, 0), abs=1e-4)


def test_points_of_a_cell_are_averaged():
    cloud = town()
    labels = np.where(cloud.classification == 2, 0, 1)
    cells = make_cells(cloud, 2.0, FEATURES, labels)
    assert cells.features.shape == (len(cells), num_channels(FEATURES)) == (len(cells), 8)
    numbers = np.floor(cloud.xyz / 2).astype(np.int64)
    assert len(cells) == len(np.unique(numbers, axis=0))
    for cell in (0, len(cells) // 2, int(np.bincount(cells.inverse).argmax())):
        mine = cells.inverse.numpy() == cell
        assert len(np.unique(numbers[mine], axis=0)) == 1
        values = {name: each[mine].astype(float) for name, each in cloud.attributes.items()}
        returns = values["return_number"] / values["number_of_returns"]
        expected = [values["intensity"], returns, values["number_of_returns"]]
        expected += [values[name] / 65535 for name in ("red", "green", "blue")]
        np.testing.assert_allclose(cells.features[cell, 2:], np.mean(expected, 1), rtol=1e-5)
        np.testing.assert_allclose(cells.xyz[cell] + cells.origin, cloud.xyz[mine].mean(0), atol=1e-4)
        assert cells.labels[cell] == (labels[mine].mean() > 0.5)


@pytest.mark.parametrize("grid", [1.0, 0.3, 0.7])
def test_cells_do_not_depend_on_how_the_cloud_was_cut(grid):
    """Round coordinates fall on the borders between cells, where rounding decides; it must decide the same for parts,
    whose coordinates are counted from elsewhere."""
    random = np.random.default_rng(0)
    xyz = random.uniform(0, 1, (20_000, 3)) * (500 * grid, 20 * grid, 8 * grid)
    cloud = Cloud(np.round(xyz + CORNER, 1), {"intensity": random.integers(0, 1000, 20_000)})
    whole = make_cells(cloud, grid, ("intensity",))
    x, reach = cloud.xyz[:, 0] - CORNER[0], margin_of(grid)
    for low, high in ((0, 100), (130, 260), (390, 500)):
        own = (x >= low * grid) & (x <= high * grid)
        near = (x > x[own].min() - reach) & (x < x[own].max() + reach)
        part = make_cells(part_of(cloud, near), grid, ("intensity",))
        ours, theirs = whole.inverse[own], part.inverse[own[near]]
        assert torch.equal(ours.unique(return_inverse=True)[1], theirs.unique(return_inverse=True)[1])
        inner = (x[own] > (low + 1) * grid) & (x[own] < (high - 1) * grid)  # whole cells
        ours, theirs = ours[inner], theirs[inner]
        torch.testing.assert_close(part.features[theirs], whole.features[ours], rtol=1e-6, atol=1e-6)
        places = [cells.xyz[rows].numpy() + cells.origin for cells, rows in ((whole, ours), (part, theirs))]
        np.testing.assert_allclose(*places, atol=2e-5)


def test_order_of_points_changes_nothing():
    cloud = town()
    order = np.random.default_rng(1).permutation(len(cloud))
    one, other = make_cells(cloud, 1.0, FEATURES), make_cells(part_of(cloud, order), 1.0, FEATURES)
    assert torch.equal(other.inverse, one.inverse[order])
    torch.testing.assert_close(other.features, one.features)


def test_features_that_tell_nothing_are_not_offered():
    cloud = town()
    assert features_of(cloud) == FEATURES
    assert features_of(having(cloud, intensity=None, green=None)) == ("returns",)
    assert features_of(having(cloud, intensity=np.full(len(cloud), 7), return_number=None)) == ("colour",)
    assert features_of(Cloud(cloud.xyz, {})) == ()
    assert num_channels(()) == make_cells(Cloud(cloud.xyz, {}), 1.0, ()).features.shape[1]


def test_an_unknown_feature_is_named():
    with pytest.raises(ValueError, match="'smell' is no feature; choose from intensity, returns, colour"):
        num_channels(("intensity", "smell"))


def test_a_feature_that_is_constant_in_this_cloud_is_used_all_the_same():
    cloud = having(town(), intensity=np.full(len(town()), 7, np.uint16))
    assert (make_cells(cloud, 1.0, ("intensity",)).features[:, 2] == 7).all()


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_every_format_gives_the_same_cells(tmp_path, ending):
    cloud = town()
    write_cloud(tmp_path / f"town.{ending}", cloud)
    read = open_cloud(tmp_path / f"town.{ending}").read()
    assert features_of(read) == FEATURES
    torch.testing.assert_close(make_cells(read, 1.0, FEATURES).features, make_cells(cloud, 1.0, FEATURES).features)


def test_what_cannot_be_averaged_is_one_line_that_names_the_file(tmp_path):
    def refusal(cloud: Cloud, features=FEATURES) -> str:
        write_cloud(tmp_path / "town.ply", cloud)
        with pytest.raises(ValueError, match=rf"^{tmp_path}/town\.ply: .*") as refused:
            make_cells(open_cloud(tmp_path / "town.ply").read(), 0.5, features)
        return str(refused.value)

    cloud = town()
    nothing = np.full(len(cloud), np.nan, np.float32)
    assert "holds no points" in refusal(part_of(cloud, np.arange(0)))
    assert "has no intensity" in refusal(having(cloud, intensity=None))
    assert "has no returns" in refusal(having(cloud, number_of_returns=None))
    assert "has no colour" in refusal(having(cloud, blue=None))
    assert "point 0: red is nan" in refusal(having(cloud, red=nothing))
    assert "point 0: intensity is nan" in refusal(having(cloud, intensity=nothing), ("intensity",))
    stray = np.concatenate([cloud.xyz, [[0, 0, 0]]])
    assert "too much for cells of 0.5" in refusal(Cloud(stray, {}), ())
