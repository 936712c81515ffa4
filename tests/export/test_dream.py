"""`oneiros play --engine onnx`: a dream that the exported world steps is the dream that torch steps."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from oneiros.export.dream import ExportedDream
from oneiros.sampling import Sampling
from oneiros.world.dream import Dream
from tests.export.worlds import EagerDream, pixel_world, starts_of


@pytest.fixture(params=["keys", "discrete", "continuous"])
def dreams(request, tmp_path):
    """A dream of torch, and the same world's of the exported program."""
    world = pixel_world(request.param, depth=request.param == "keys")
    starts = starts_of(world, request.param)
    engine = EagerDream(world, starts, tmp_path)
    return Dream(world, starts), ExportedDream(world, starts, engine)


def test_a_seed_and_actions_give_the_dream_of_torch(dreams):
    torchs, exported = dreams
    action = torchs.action_space.sample()
    for seed in (3, 4):
        (first, about), (same, and_this) = torchs.reset(seed=seed), exported.reset(seed=seed)
        assert np.array_equal(first, same)
        assert about["start"] == and_this["start"]
        for _ in range(6):
            expected, found = torchs.step(action), exported.step(action)
            assert np.abs(expected[0].astype(int) - found[0]).max() <= 1
            assert expected[1:4] == found[1:4]
            assert set(expected[4]) == set(found[4])


def test_dreams_of_one_engine_go_their_own_ways_and_back(dreams):
    _, one = dreams
    action = one.action_space.sample()
    other = one.another()
    one.reset(seed=1)
    snapshot = one.snapshot()
    seen = [one.step(action)[0] for _ in range(3)]
    one.restore(snapshot)
    assert np.array_equal(one.step(action)[0], seen[0])
    other.reset(seed=2)
    other.step(action)
    assert np.array_equal(one.step(action)[0], seen[1])
    one.restore(snapshot)
    assert all(np.array_equal(one.step(action)[0], frame) for frame in seen)


def test_what_exported_worlds_lack_is_refused(dreams):
    _, exported = dreams
    with pytest.raises(ValueError, match="reset"):
        exported.step(0)
    exported.reset(seed=0)
    exported.sampling = replace(Sampling(), guidance_scale=2.0)
    with pytest.raises(ValueError, match="guidance"):
        exported.step(exported.action_space.sample())
    with pytest.raises(ValueError, match="thinks"):
        exported.think()
