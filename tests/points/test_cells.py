"""Clouds averaged over cells: heights above the ground around, and cells that do not know where a cloud was cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oneiros.data.clouds.formats import Cloud, open_cloud, write_cloud
from oneiros.points.cells import features_of, layout, make_cells, margin_of, num_channels
from oneiros.points.profile import CloudProfile
from tests.towns import CORNER, having, part_of, town

FEATURES = ("intensity", "returns", "colour")  # of runs made before features were relative to their cloud
OFFERED = ("cones", "steps", "intensity_rank", "echoes", "colour_rank")


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
    xyz = random.uniform(0, 1, (20_000, 3)) * (900 * grid, 12 * grid, 8 * grid)
    cloud = Cloud(np.round(xyz + CORNER, 1), {"intensity": random.integers(0, 1000, 20_000)})
    features, profile = ("intensity", *OFFERED[:2]), CloudProfile.of(cloud)
    whole = make_cells(cloud, grid, features, profile=profile)
    x, reach = cloud.xyz[:, 0] - CORNER[0], margin_of(grid, features)
    for low, high in ((0, 100), (330, 460), (790, 900)):
        own = (x >= low * grid) & (x <= high * grid)
        near = (x > x[own].min() - reach) & (x < x[own].max() + reach)
        part = make_cells(part_of(cloud, near), grid, features, profile=profile)
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
    assert features_of(cloud) == OFFERED
    assert features_of(having(cloud, intensity=None, green=None)) == ("cones", "steps", "echoes")
    assert features_of(having(cloud, intensity=np.full(len(cloud), 7), return_number=None)) == (
        "cones",
        "steps",
        "colour_rank",
    )
    ones = np.ones(len(cloud), np.uint8)
    assert "echoes" not in features_of(having(cloud, return_number=ones, number_of_returns=ones))
    assert features_of(Cloud(cloud.xyz, {})) == ("cones", "steps")
    assert num_channels(()) == make_cells(Cloud(cloud.xyz, {}), 1.0, ()).features.shape[1]


def test_an_unknown_feature_is_named():
    with pytest.raises(
        ValueError, match="'smell' is no feature; choose from cones, steps, intensity_rank, echoes, colour_rank"
    ):
        num_channels(("intensity", "smell"))


def test_a_feature_that_is_constant_in_this_cloud_is_used_all_the_same():
    cloud = having(town(), intensity=np.full(len(town()), 7, np.uint16))
    assert (make_cells(cloud, 1.0, ("intensity",)).features[:, 2] == 7).all()


@pytest.mark.parametrize("ending", ["las", "laz", "ply", "npy"])
def test_every_format_gives_the_same_cells(tmp_path, ending):
    cloud = town()
    write_cloud(tmp_path / f"town.{ending}", cloud)
    read = open_cloud(tmp_path / f"town.{ending}").read()
    assert features_of(read) == OFFERED
    for features in (FEATURES, OFFERED):
        torch.testing.assert_close(make_cells(read, 1.0, features).features, make_cells(cloud, 1.0, features).features)


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
    assert "too much for cells of 0.5" in refusal(Cloud(cloud.xyz * (1e3, 1e3, 1), {}), ())


def test_wide_roofs_stand_out_and_hillsides_do_not():
    """Heights above cones: a roof 60 m wide has none of its ground within 16 m; a hillside's falls away for ever."""
    features = ("cones",)

    def roof(x, y):
        return np.where((x > 30) & (x < 90) & (y > 30) & (y < 90), 9.0, 0.0)

    def of(cloud, x, y):
        cells = make_cells(cloud, 0.5, features)
        point = np.abs(cloud.xyz[:, :2] - CORNER[:2] - (x, y)).sum(1).argmin()
        return cells.features[cells.inverse[point], 2:].tolist()

    middle = of(surface(roof, size=120, spacing=0.5), 60, 60)
    assert middle[0] == pytest.approx(9 - 0.05 * 30, abs=0.3)
    assert middle[1] == pytest.approx(9 - 0.2 * 30, abs=0.3)
    assert middle[2] == 0
    for slope in (0.15, 0.5):
        hillside = of(surface(lambda x, y, s=slope: s * x, size=120, spacing=0.5), 80, 60)
        assert hillside[2] < 1.0
    assert of(surface(lambda x, y: 0.15 * x, size=120, spacing=0.5), 80, 60)[1] < 0.6


def test_steps_tell_a_roof_from_a_hill_top():
    """Ground lower than what can be walked to: as far below a roof as its walls are high, however wide it is and though
    nothing is seen of the ground next to it; as good as nothing below a hill as high and flat on top."""

    def middle(cloud):
        cells = make_cells(cloud, 0.5, ("steps",))
        point = np.abs(cloud.xyz[:, :2] - CORNER[:2] - 60).sum(1).argmin()
        return cells.features[cells.inverse[point], 2:]

    def away(x, y):
        return np.maximum(np.abs(x - 60), np.abs(y - 60))

    roof = surface(lambda x, y: np.where(away(x, y) < 30, 9.0, 0.0), size=120, spacing=0.5)
    hill = surface(lambda x, y: np.clip(9 - 0.5 * (away(x, y) - 20), 0, 9), size=120, spacing=0.5)
    torch.testing.assert_close(middle(roof), torch.tensor([9.0, 9.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(middle(hill), torch.zeros(2), atol=0.05, rtol=0)
    shown = np.abs(away(*(roof.xyz - CORNER)[:, :2].T) - 31.5) > 1.5  # nothing from the walls to 3 m away
    torch.testing.assert_close(
        middle(part_of(roof, np.flatnonzero(shown))), torch.tensor([9.0, 9.0]), atol=0.05, rtol=0
    )
    steep = surface(lambda x, y: 0.9 * x, size=120, spacing=0.5)
    assert middle(steep)[0] > 30  # steeper than 0.6
    assert middle(steep)[1] < 0.1


@pytest.mark.parametrize("spacing", [0.3, 1.0])
def test_a_swarm_where_nothing_else_lies_is_no_ground(spacing):
    """False echoes over all heights beside a field: those in their middle lie no deeper than most around."""
    cloud, random = surface(lambda x, y: 0 * x, spacing=spacing), np.random.default_rng(0)
    swarm = random.uniform((60.5, 0, -60), (100, 60, 60), (1000 if spacing < 0.5 else 150, 3)) + CORNER
    cells = make_cells(Cloud(np.concatenate([cloud.xyz, swarm]), {}), 0.5, ("cones",))
    assert cells.features[cells.inverse[: len(cloud)]].abs().max() < 0.05


@pytest.mark.parametrize("spacing", [0.3, 1.0])
def test_noise_below_moves_no_ground(spacing):
    """Three false echoes 30 m down, one 5 m down, and a swarm of them over a corner."""
    cloud, random = surface(lambda x, y: 0 * x, spacing=spacing), np.random.default_rng(0)
    swarm = random.uniform((0, 0, -60), (15, 15, -8), (60 if spacing < 0.5 else 15, 3))
    noise = np.concatenate([[[30, 30, -30], [31, 30, -30], [30, 31, -29.5], [45, 45, -5]], swarm]) + CORNER
    noisy = Cloud(np.concatenate([cloud.xyz, noise]), {})
    cells = make_cells(noisy, 0.5, ("cones",))
    above = cells.features[cells.inverse[: len(cloud)]]
    assert (above.abs() < 0.05).all(1).float().mean() > 0.999


def test_ground_seen_through_leaves_and_in_an_alley_is_ground():
    random = np.random.default_rng(0)
    canopy = random.uniform((0, 0, 12), (60, 60, 20), (40_000, 3))
    seen = random.uniform((0, 0, 0), (60, 60, 0.1), (1500, 3))
    forest = make_cells(Cloud(np.concatenate([canopy, seen]) + CORNER, {}), 0.5, ())
    assert forest.features[:, 1].max() > 19
    assert forest.features[:, 1].min() > -0.2
    alley = surface(lambda x, y: np.where(np.abs(x - 30) < 1.5, 0.0, 12.0))
    assert heights_at(alley, 33, 30)[0] == pytest.approx(12, abs=1e-4)


def test_points_that_are_no_context_are_in_no_cell():
    cloud = town()
    noise = np.array([[20.0, 20, -40], [20, 21, -40], [21, 20, -40], [5, 5, 90]]) + CORNER
    attributes = {name: np.concatenate([each, each[:4]]) for name, each in cloud.attributes.items()}
    attributes["classification"] = np.concatenate([cloud.classification, [7, 7, 18, 5]]).astype(np.uint8)
    attributes["withheld"] = np.concatenate([np.zeros(len(cloud)), [0, 0, 0, 1]]).astype(np.uint8)
    both = Cloud(np.concatenate([cloud.xyz, noise]), attributes)
    cells, clean = make_cells(both, 1.0, OFFERED[:1]), make_cells(cloud, 1.0, OFFERED[:1])
    assert torch.equal(cells.xyz, clean.xyz)
    assert torch.equal(cells.features, clean.features)
    assert torch.equal(cells.inverse[: len(cloud)], clean.inverse)  # the others have the nearest cell
    place = cells.xyz[cells.inverse[-1]].numpy() + cells.origin
    assert np.linalg.norm(place - noise[-1]) < 100
    everything = having(cloud, synthetic=np.ones(len(cloud), np.uint8))  # photogrammetry flags all of its points
    assert torch.equal(make_cells(everything, 1.0, ()).xyz, clean.xyz)


def test_ranks_do_not_know_a_scanner():
    cloud = town()
    gained = having(cloud, intensity=(cloud.attributes["intensity"] * 17.0 + 3).astype(np.float32))
    ours, theirs = (make_cells(each, 1.0, ("intensity_rank",)).features for each in (cloud, gained))
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    ranks = ours[:, 2]
    assert -1 <= ranks.min() < -0.8
    assert 0.8 < ranks.max() <= 1


def test_what_a_cloud_lacks_is_zero_and_flagged():
    bare = having(town(), intensity=None, red=None, return_number=None)
    features = make_cells(bare, 1.0, OFFERED).features
    assert (features[:, 7:] == 0).all()
    whole = make_cells(town(), 1.0, OFFERED)
    flags = [place.stop - 1 for name, place in layout(OFFERED).items() if name not in ("", "cones", "steps")]
    assert (whole.features[:, flags] == 1).all()
