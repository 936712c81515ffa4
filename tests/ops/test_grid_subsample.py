"""Grid subsampling against cells gathered in a dictionary, point by point."""

from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiros.ops.grid_subsample import grid_subsample


def expected(xyz, cell, offsets, features, labels):
    members = defaultdict(list)
    bounds = offsets.tolist()
    for cloud in range(len(bounds) - 1):
        for i in range(bounds[cloud], bounds[cloud + 1]):
            members[cloud, *(xyz[i].double() / cell).floor().long().tolist()].append(i)
    cells = sorted(members)
    inverse = torch.empty(len(xyz), dtype=torch.int64)
    winners = []
    for number, key in enumerate(cells):
        inverse[members[key]] = number
        votes = Counter(label for label in labels[members[key]].tolist() if label != -1)
        winners.append(min(votes, key=lambda label: (-votes[label], label)) if votes else -1)
    return (
        [xyz[members[key]].double().mean(0).to(xyz.dtype) for key in cells],
        [features[members[key]].double().mean(0).to(features.dtype) for key in cells],
        torch.tensor(winners, dtype=torch.int64),
        torch.tensor([sum(key[0] < cloud for key in cells) for cloud in range(len(bounds))]),
        inverse,
    )


def _random(num, seed=0, dims=3, dtype=torch.float32, scale=4.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    xyz = (torch.rand(num, dims, generator=generator, dtype=torch.float64) - 0.5) * scale + torch.tensor(shift)
    features = torch.randn(num, 2, generator=generator)
    return xyz.to(dtype), features, torch.randint(-1, 3, (num,), generator=generator)


CASES = {
    "nothing": (_random(0), [0, 0]),
    "one point": (_random(1), [0, 1]),
    "below and above zero": (_random(500), [0, 500]),
    "all in one cell": (_random(50, scale=0.1, shift=0.5), [0, 50]),
    "every point alone": (_random(50, scale=4000.0), [0, 50]),
    "ragged clouds": (_random(300), [0, 0, 5, 120, 120, 300, 300]),
    "two dimensions": (_random(200, dims=2), [0, 200]),
    "UTM": (_random(300, dtype=torch.float64, shift=(770_500.0, 6_277_600.0, 40.0)), [0, 300]),
}


@pytest.mark.parametrize("cell", [1.0, 0.37])
@pytest.mark.parametrize("case", CASES)
def test_every_case(case, cell):
    (xyz, features, labels), bounds = CASES[case]
    offsets = torch.tensor(bounds)
    got = grid_subsample(xyz, cell, offsets=offsets, features=features, labels=labels)
    means, mean_features, winners, starts, inverse = expected(xyz, cell, offsets, features, labels)
    assert torch.equal(got.inverse, inverse)
    assert torch.equal(got.offsets, starts)
    assert torch.equal(got.labels, winners)
    assert got.xyz.dtype == xyz.dtype
    if means:
        torch.testing.assert_close(got.xyz, torch.stack(means), rtol=1e-15 if case == "UTM" else 1e-6, atol=0)
        torch.testing.assert_close(got.features, torch.stack(mean_features), rtol=1e-6, atol=1e-7)


def test_labels_by_majority():
    xyz = torch.zeros(8, 3)
    for labels, winner in [
        ([2, 2, 1, 1, 0, 0, 5, 5], 0),
        ([-1, -1, -1, -1, -1, -1, -1, 4], 4),
        ([-1] * 8, -1),
        ([7, 7, 7, 3, 3, 3, 3, -1], 3),
    ]:
        assert grid_subsample(xyz, 1.0, labels=torch.tensor(labels)).labels.tolist() == [winner]


def test_features_and_labels_are_optional():
    got = grid_subsample(torch.rand(10, 3), 0.5)
    assert got.features is None
    assert got.labels is None
    assert got.offsets.tolist() == [0, len(got.xyz)]


def test_a_tile_border_moves_no_cell():
    """A tile cut out of a cloud, at a border of the grid, gives the cloud's own cells."""
    xyz = _random(2000, dtype=torch.float64, scale=40.0, shift=(770_500.0, 6_277_600.0, 40.0))[0]
    whole, tile = grid_subsample(xyz, 2.0), grid_subsample(xyz[xyz[:, 0] >= 770_500.0], 2.0)
    assert torch.equal(tile.xyz, whole.xyz[whole.xyz[:, 0] >= 770_500.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(1, 200))
def test_order_of_points_does_not_matter(seed, num):
    xyz, features, labels = _random(num, seed)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    a = grid_subsample(xyz, 0.8, features=features, labels=labels)
    b = grid_subsample(xyz[order], 0.8, features=features[order], labels=labels[order])
    torch.testing.assert_close(a.xyz, b.xyz, rtol=1e-6, atol=1e-7)
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.inverse[order], b.inverse)


def test_bad_input_is_named():
    xyz = torch.rand(10, 3)
    wrong = [
        (lambda: grid_subsample(xyz, 0.0), "cell is 0.0"),
        (lambda: grid_subsample(xyz, float("nan")), "cell is nan"),
        (lambda: grid_subsample(xyz[0], 1.0), "xyz are floating"),
        (lambda: grid_subsample(xyz, 1.0, features=torch.rand(9, 2)), r"features \(9, 2\).*each of the 10 points"),
        (lambda: grid_subsample(xyz, 1.0, labels=torch.zeros(10, 1)), r"labels are int64 \(N,\)"),
        (lambda: grid_subsample(xyz, 1.0, labels=torch.zeros(10)), r"labels are int64"),
        (lambda: grid_subsample(xyz, 1.0, offsets=torch.tensor([0, 4])), "rise from 0 to the number of points, 10"),
        (lambda: grid_subsample(xyz * 1e9, 1e-3), "too small for points that extend over"),
        (lambda: grid_subsample(xyz * float("nan"), 1.0), r"xyz\[0\]"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
