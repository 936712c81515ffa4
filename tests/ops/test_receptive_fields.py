"""Receptive fields: every point covered, nothing outside, the same from every implementation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiros.ops.receptive_fields import receptive_fields

pytest.importorskip("numba")


def _random(num, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([30.0, 20.0, 8.0], dtype=torch.float64)
    xyz = torch.rand(num, 3, generator=generator, dtype=torch.float64) * size
    return (xyz + torch.tensor([770_500.0, 6_277_600.0, 40.0])).to(dtype)


def _dims(shape):
    return {"cylinder": 2, "sphere": 3}[shape]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centres", ["grid", "farthest"])
@pytest.mark.parametrize("shape", ["cylinder", "sphere"])
def test_fields_hold_what_lies_within_and_cover_everything(shape, centres, dtype):
    xyz = _random(1500, dtype=dtype)
    fields = list(receptive_fields(xyz, 4.0, shape=shape, centres=centres))
    covered = torch.zeros(len(xyz), dtype=torch.bool)
    for centre, indices in fields:
        assert centre.shape == (_dims(shape),)
        apart = (xyz[:, : _dims(shape)].double() - centre).square().sum(1)
        assert torch.equal(indices, (apart <= 16.0).nonzero()[:, 0])
        covered[indices] = True
    assert covered.all()
    assert 1 < len(fields) < 400
    assert len({tuple(centre.tolist()) for centre, _ in fields}) == len(fields)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 200),
    radius=st.floats(0.2, 60.0),
    shape=st.sampled_from(["cylinder", "sphere"]),
    centres=st.sampled_from(["grid", "farthest"]),
    max_points=st.none() | st.integers(1, 50),
)
def test_every_point_is_covered(seed, num, radius, shape, centres, max_points):
    """At the widest spacing that is allowed."""
    xyz = _random(num, seed)
    dims = _dims(shape)
    widest = 2 * radius / dims**0.5 if centres == "grid" else radius - radius / 4 * dims**0.5
    fields = receptive_fields(
        xyz, radius, shape=shape, centres=centres, spacing=widest * 0.99999, max_points=max_points
    )
    assert torch.cat([indices for _, indices in fields]).unique().tolist() == list(range(num))


@pytest.mark.parametrize("centres", ["grid", "farthest"])
@pytest.mark.parametrize("shape", ["cylinder", "sphere"])
def test_implementations_agree(shape, centres):
    xyz = _random(800)
    ours, reference = (
        list(receptive_fields(xyz, 5.0, shape=shape, centres=centres, implementation=implementation))
        for implementation in ("numba", "reference")
    )
    assert len(ours) == len(reference)
    for a, b in zip(ours, reference, strict=True):
        assert torch.equal(a.centre, b.centre)
        assert torch.equal(a.indices, b.indices)


def test_grid_centres_are_fixed_in_the_world():
    xyz = _random(2000)
    part = xyz[xyz[:, 0] < 770_515.0]
    whole = {tuple(field.centre.tolist()) for field in receptive_fields(xyz, 3.0)}
    assert {tuple(field.centre.tolist()) for field in receptive_fields(part, 3.0)} <= whole


def test_a_full_field_is_dealt_out():
    xyz = _random(1000)
    whole = {tuple(field.centre.tolist()): field.indices for field in receptive_fields(xyz, 6.0)}
    dealt = {}
    for centre, indices in receptive_fields(xyz, 6.0, max_points=70):
        assert len(indices) <= 70
        dealt.setdefault(tuple(centre.tolist()), []).append(indices)
    assert dealt.keys() == whole.keys()
    assert max(len(parts) for parts in dealt.values()) > 1
    for centre, parts in dealt.items():
        assert torch.equal(torch.cat(parts).sort().values, whole[centre])
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_empty_cloud_has_no_fields():
    for centres in ("grid", "farthest"):
        assert not list(receptive_fields(torch.empty(0, 3), 1.0, centres=centres))


def test_bad_input_is_named_at_once():
    """Not when the first field is asked for."""
    xyz = _random(20)
    wrong = [
        (lambda: receptive_fields(xyz, 0.0), "radius is 0.0"),
        (lambda: receptive_fields(xyz, 1.0, shape="cube"), "shape is 'cube'"),
        (lambda: receptive_fields(xyz[:, :2], 1.0), r"\(20, 2\)"),
        (lambda: receptive_fields(xyz, 1.0, centres="random"), "centres are 'random'"),
        (lambda: receptive_fields(xyz, 1.0, spacing=1.5), "spacing is 1.5; it must be above 0 and below 1.41421"),
        (lambda: receptive_fields(xyz, 1.0, shape="sphere", spacing=1.2), "below 1.1547"),
        (lambda: receptive_fields(xyz, 1.0, centres="farthest", spacing=0.8), "below 0.646447"),
        (lambda: receptive_fields(xyz, 1.0, max_points=0), "max_points is 0"),
        (lambda: receptive_fields(xyz * float("inf"), 1.0), "finite"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
