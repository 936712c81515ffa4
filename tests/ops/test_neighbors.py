"""Neighbours: one table of cases drives every implementation against sorted distances written out in numpy."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiros.ops.neighbors import knn, radius_neighbors

pytest.importorskip("numba")
IMPLEMENTATIONS = ["numba", "reference"]


def _random(num, dims=3, seed=0, dtype=torch.float32):
    return torch.rand(num, dims, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _lattice(side):
    """Every distance is shared by many points."""
    return torch.cartesian_prod(*[torch.arange(float(side))] * 3)


# name: points, queries, offsets, query_offsets
CASES = {
    "nothing": (_random(0), _random(0), None, None),
    "no points": (_random(0), _random(5), None, None),
    "no queries": (_random(5), _random(0), None, None),
    "one point": (_random(1), _random(1), None, None),
    "fewer points than k": (_random(4), _random(9, seed=1), None, None),
    "several leaves": (_random(700), _random(90, seed=1), None, None),
    "one dimension": (_random(300, 1), _random(60, 1, seed=1), None, None),
    "two dimensions": (_random(300, 2), _random(60, 2, seed=1), None, None),
    "five dimensions": (_random(300, 5), _random(60, 5, seed=1), None, None),
    "ragged clouds": (
        _random(600),
        _random(100, seed=1),
        torch.tensor([0, 3, 3, 250, 600]),
        torch.tensor([0, 20, 30, 30, 100]),
    ),
    "every point twice": (_random(200).repeat(2, 1), _random(200), None, None),
    "a thousand of one": (torch.ones(1000, 3), torch.ones(50, 3), None, None),
    "heaps, mixed up": (_random(900).mul(3).floor()[:, :1].repeat(1, 3), _lattice(3), None, None),
    "ties on a lattice": (_lattice(8), _lattice(8) + 0.5, None, None),
    "a plane": (_random(400) * torch.tensor([1.0, 1.0, 0.0]), _random(70, seed=1), None, None),
    "UTM": (_random(500, dtype=torch.float64) + torch.tensor([770_500.0, 6_277_600.0, 40.0]),) * 2 + (None, None),
    "mixed dtypes": (_random(300), _random(60, seed=1, dtype=torch.float64), None, None),
}


def expected(points, queries, k, reach, offsets, query_offsets):
    """By sorting (distance, index) of all points."""
    num = len(points)
    clouds = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) if offsets is not None else np.zeros(num)
    asked = (
        np.repeat(np.arange(len(query_offsets) - 1), np.diff(query_offsets))
        if query_offsets is not None
        else np.zeros(len(queries))
    )
    indices, distances = np.full((len(queries), k), num), np.full((len(queries), k), np.inf)
    for row, query in enumerate(queries.double().numpy()):
        squared = sum((points[:, d].double().numpy() - query[d]) ** 2 for d in range(len(query)))
        candidates = np.flatnonzero((clouds == asked[row]) & (squared <= reach * reach))
        chosen = candidates[np.lexsort((candidates, squared[candidates]))][:k]
        indices[row, : len(chosen)], distances[row, : len(chosen)] = chosen, np.sqrt(squared[chosen])
    return torch.from_numpy(indices), torch.from_numpy(distances).to(points.dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("reach", [float("inf"), 0.2, 1.0, 0.0])
@pytest.mark.parametrize("case", CASES)
def test_every_case(case, reach, implementation):
    points, queries, offsets, query_offsets = CASES[case]
    clouds = {"offsets": offsets, "query_offsets": query_offsets, "implementation": implementation}
    want = expected(points, queries, 6, reach, offsets, query_offsets)
    if reach == float("inf"):
        got = knn(points, queries, 6, **clouds)
        assert torch.equal(knn(points, queries, 1, **clouds)[0], want[0][:, :1])
    else:
        got = radius_neighbors(points, queries, reach, 6, **clouds)
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], rtol=2e-7 if got[1].dtype == torch.float32 else 4e-16, atol=0)
    assert got[0].dtype == torch.int64
    assert got[1].dtype == points.dtype


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_points_among_themselves_find_themselves_first(implementation):
    points = _random(900)
    offsets = torch.tensor([0, 400, 900])
    indices, distances = knn(points, points, 5, offsets=offsets, implementation=implementation)
    assert torch.equal(indices[:, 0], torch.arange(900))
    assert (distances[:, 0] == 0).all()
    assert (indices[:400] < 400).all()
    assert (indices[400:] >= 400).all()
    assert torch.equal(indices, knn(points, points.clone(), 5, offsets=offsets, implementation=implementation)[0])


def test_agrees_with_scipy_on_a_large_cloud():
    spatial = pytest.importorskip("scipy.spatial")
    points, queries = _random(40_000, dtype=torch.float64), _random(5_000, seed=1, dtype=torch.float64)
    distances, indices = spatial.cKDTree(points.numpy()).query(queries.numpy(), 16)
    got = knn(points, queries, 16)
    assert torch.equal(got[0], torch.from_numpy(indices))
    assert torch.allclose(got[1], torch.from_numpy(distances), rtol=1e-14, atol=0)


def test_any_number_of_threads_gives_the_same():
    points = _random(60_000)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = knn(points, points, 8)
        torch.set_num_threads(3)
        together = knn(points, points, 8)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])


def test_may_be_called_from_several_threads_at_once():
    points = _random(20_000)
    want = knn(points, points, 4)[0]
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: knn(points, points, 4)[0], range(8)):
            assert torch.equal(got, want)


def test_arguments_are_left_alone():
    for dims in (1, 3):
        points = _random(500, dims, dtype=torch.float64)
        before = points.clone()
        knn(points, points, 4)
        knn(points.T.contiguous().T, points, 4)
        assert torch.equal(points, before)


def test_no_gradient_flows_but_points_may_require_one():
    points = _random(50).requires_grad_()
    assert not knn(points, points, 3)[1].requires_grad


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num=st.integers(1, 120), k=st.integers(1, 9))
def test_permuted_points_have_permuted_neighbours(seed, num, k):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(num, 3, generator=generator)
    order = torch.randperm(num, generator=generator)
    indices, distances = knn(points, points, k)
    permuted, same = knn(points[order], points[order], k)
    names = torch.cat([order, torch.tensor([num])])
    assert torch.equal(names[permuted], indices[order])
    assert torch.equal(same, distances[order])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 150),
    shift=st.tuples(*[st.integers(-(2**20), 2**20)] * 3),
)
def test_moved_points_have_the_same_neighbours(seed, num, shift):
    """On a lattice of whole numbers, where ties are the rule and no sum is rounded."""
    points = torch.randint(0, 6, (num, 3), generator=torch.Generator().manual_seed(seed)).double()
    moved = points + torch.tensor(shift).double()
    for ours, theirs in zip(knn(points, points, 7), knn(moved, moved, 7), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(knn(points, points, 7)[0], knn(points, points, 7, implementation="reference")[0])


def test_bad_input_is_named():
    points = _random(10)
    wrong = [
        (lambda: knn(points, points, 0), "k is 0"),
        (lambda: knn(points[:, 0], points, 1), r"points are floating coordinates \(N, D\), got torch.float32 \(10,\)"),
        (lambda: knn(points.long(), points, 1), "points are floating"),
        (lambda: knn(points, points[:, :2], 1), "must share dimension"),
        (lambda: radius_neighbors(points, points, -1.0, 1), "radius is -1.0"),
        (lambda: radius_neighbors(points, points, float("nan"), 1), "radius is nan"),
        (lambda: knn(points, points, 1, offsets=torch.tensor([0, 9])), "rise from 0 to the number of points, 10"),
        (lambda: knn(points, points, 1, offsets=torch.tensor([0, 7, 5, 10])), "rise from 0"),
        (lambda: knn(points, points, 1, offsets=torch.tensor([0.0, 10.0])), "offsets are int64"),
        (
            lambda: knn(points, points, 1, offsets=torch.tensor([0, 5, 10]), query_offsets=torch.tensor([0, 10])),
            "hold 2",
        ),
        (lambda: knn(points, points, 1, implementation="cuda"), "choose auto, reference or numba"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
    for value in (float("nan"), float("inf")):
        broken = points.clone()
        broken[3, 1] = value
        with pytest.raises(ValueError, match=r"points\[3\]"):
            knn(broken, points, 1)
        with pytest.raises(ValueError, match=r"queries\[3\]"):
            knn(points, broken, 1)


def test_the_environment_forces_the_reference():
    script = (
        "import sys, torch; from oneiros.ops.neighbors import knn; p = torch.rand(50, 3); knn(p, p, 3);"
        "print('numba' in sys.modules)"
    )
    loaded = {
        value: subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "ONEIROS_KERNELS": value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for value in ("reference", "auto")
    }
    assert loaded == {"reference": "False", "auto": "True"}
