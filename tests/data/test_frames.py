import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oneiros.data.frames import depth_from_model, depth_to_model, resize, resize_nearest, to_model, to_uint8
from oneiros.records import Camera

CAMERA = Camera("observation.depth.front", 4, 4, "depth", depth_max=20.0)
sizes = st.integers(1, 40)


def test_every_pixel_value_survives_the_model_range():
    frame = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    inside = to_model(frame)
    assert inside.shape == (1, 3, 16, 16)
    assert (inside.min(), inside.max()) == (-1, 1)
    assert np.array_equal(to_uint8(inside).numpy(), frame)


def test_values_outside_the_model_range_are_clipped_and_depth_is_left_out():
    frames = torch.stack([torch.full((2, 2), value) for value in (-3.0, 0.0, 3.0, 0.5)])
    assert to_uint8(frames)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_what_is_no_frame_is_refused(wrong):
    with pytest.raises(ValueError, match="must be uint8"):
        to_model(wrong)


def test_depth_survives_the_model_range_to_within_a_code():
    metres = np.linspace(0.01, 20, 1000, dtype=np.float32).reshape(1, 25, 40)
    inside = depth_to_model(metres, CAMERA)
    assert (inside.min(), inside.max()) == (-1, 1)
    np.testing.assert_allclose(depth_from_model(inside, CAMERA), metres, atol=0.006)


def test_area_filter_averages_whole_blocks():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    blocks = frames.reshape(2, 4, 2, 6, 2, 3).mean(axis=(2, 4))
    assert np.abs(resize(frames, 4, 6) - blocks).max() <= 1


def test_resize_crops_the_centre_to_the_new_aspect_ratio():
    frame = np.zeros((1, 8, 16, 3), np.uint8)
    frame[:, :, 4:12] = 200
    assert (resize(frame, 4, 4) == 200).all()
    assert resize(frame, 4, 4, crop=False).min() == 0
    assert (resize_nearest(frame[..., 0], 4, 4) == 200).all()


@given(sizes, sizes, sizes, sizes, st.booleans())
def test_a_plain_picture_stays_plain_at_any_size(height, width, new_height, new_width, crop):
    frame = np.full((1, height, width, 3), 77, np.uint8)
    resized = resize(frame, new_height, new_width, crop=crop)
    assert resized.shape == (1, new_height, new_width, 3)
    assert (resized == 77).all()


@given(sizes, sizes, sizes, sizes, st.booleans())
def test_nearest_invents_no_value(height, width, new_height, new_width, crop):
    codes = np.arange(height * width, dtype=np.uint16).reshape(1, height, width)
    resized = resize_nearest(codes, new_height, new_width, crop=crop)
    assert resized.shape == (1, new_height, new_width)
    if (height, width) == (new_height, new_width):
        assert np.array_equal(resized, codes)
