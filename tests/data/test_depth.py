import math

import numpy as np
import pytest

from oneiros.data.depth import MAX_CODE, codes_to_depth, depth_to_codes
from oneiros.records import Camera


def camera(**values) -> Camera:
    return Camera("observation.depth.front", 1, 1, "depth", **values)


def test_codes_are_those_of_the_official_formula():
    metres = np.array([0.01, 0.5, 1.0, 3.3, 9.99, 10.0], dtype=np.float32)
    expected = [
        round(MAX_CODE * (math.log(m + 3.5) - math.log(3.51)) / (math.log(13.5) - math.log(3.51)))
        for m in metres.tolist()
    ]
    assert depth_to_codes(metres, camera()).tolist() == expected
    assert expected[0] == 0
    assert expected[-1] == MAX_CODE


@pytest.mark.parametrize("log", [True, False])
def test_every_code_comes_back(log):
    codes = np.arange(MAX_CODE + 1, dtype=np.uint16)
    metres = codes_to_depth(codes, camera(depth_max=60.0, depth_log=log))
    assert metres.dtype == np.float32
    assert np.array_equal(depth_to_codes(metres, camera(depth_max=60.0, depth_log=log)), codes)


def test_near_depth_has_finer_steps_than_far_depth():
    steps = np.diff(codes_to_depth(np.arange(MAX_CODE + 1, dtype=np.uint16), camera()))
    assert steps[0] < steps[-1] / 3
    assert steps.max() < 0.005


def test_depth_outside_the_range_is_clipped_and_nothing_seen_is_far():
    metres = np.array([-5.0, 0.0, 11.0, np.inf, np.nan, -np.inf])
    assert depth_to_codes(metres, camera()).tolist() == [0, 0, MAX_CODE, MAX_CODE, MAX_CODE, 0]


@pytest.mark.parametrize("values", [{"depth_min": 5.0, "depth_max": 5.0}, {"depth_min": -4.0}])
def test_an_impossible_range_is_refused(values):
    with pytest.raises(ValueError, match="minimum"):
        depth_to_codes(np.zeros((1, 1)), camera(**values))
