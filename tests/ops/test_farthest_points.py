"""Farthest points: each implementation against the definition, and what makes the choice worth having."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from oneiros.ops.farthest_points import farthest_points

pytest.importorskip("numba")
IMPLEMENTATIONS = ["numba", "reference"]


def _random(num, dims=3, dtype=torch.float32):
    return torch.rand(num, dims, generator=torch.Generator().manual_seed(num), dtype=dtype)


CASES = {
    "nothing": (_random(0), None),
    "one point": (_random(1), None),
    "fewer points than count": (_random(5), None),
    "many": (_random(400), None),
    "one dimension": (_random(100, 1), None),
    "ragged clouds": (_random(300), torch.tensor([0, 0, 2, 100, 100, 300])),
    "all in one place": (torch.ones(30, 3), None),
    "ties on a lattice": (torch.cartesian_prod(*[torch.arange(4.0)] * 3), None),
    "UTM": (_random(200, dtype=torch.float64) + torch.tensor([770_500.0, 6_277_600.0, 40.0]), None),
}


def expected(xyz, count, start):
    """The definition: all distances to all chosen points, again and again."""
    xyz = xyz.double().numpy()
    chosen = [start]
    while len(chosen) < min(count, len(xyz)):
        apart = np.zeros((len(xyz), len(chosen)))
        for axis in xyz.T:
            apart += (axis[:, None] - axis[chosen]) ** 2
        distance = apart.min(1)
        distance[chosen] = -1
        chosen.append(int(np.flatnonzero(distance == distance.max())[0]))
    return chosen


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_every_case(case, start, implementation):
    xyz, offsets = CASES[case]
    bounds = [0, len(xyz)] if offsets is None else offsets.tolist()
    if case == "one point" and start == 1:
        with pytest.raises(ValueError, match="start is 1; it must be a point of every cloud, the smallest holds 1"):
            farthest_points(xyz, 12, start=start, implementation=implementation)
        return
    want = [low + i for low, high in pairwise(bounds) if high > low for i in expected(xyz[low:high], 12, start)]
    got = farthest_points(xyz, 12, offsets=offsets, start=start, implementation=implementation)
    assert got.dtype == torch.int64
    assert got.tolist() == want


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_reach_stops_once_everything_is_near(implementation):
    xyz = _random(500)
    full = farthest_points(xyz, 500, implementation=implementation)
    few = farthest_points(xyz, 500, reach=0.3, implementation=implementation)
    assert torch.equal(few, full[: len(few)])
    apart = torch.cdist(xyz.double(), xyz[few].double())
    assert apart.min(1).values.max() <= 0.3
    assert apart[:, :-1].min(1).values.max() > 0.3


def test_bad_input_is_named():
    xyz = _random(10)
    wrong = [
        (lambda: farthest_points(xyz, 0), "count is 0"),
        (lambda: farthest_points(xyz, 3, start=10), "start is 10"),
        (lambda: farthest_points(xyz, 3, start=-1), "start is -1"),
        (lambda: farthest_points(xyz, 3, reach=-1.0), "reach is -1.0"),
        (lambda: farthest_points(xyz[0], 3), "xyz are floating"),
        (lambda: farthest_points(xyz, 3, offsets=torch.tensor([0, 4])), "rise from 0"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
