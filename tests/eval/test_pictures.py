"""Strips, animations and videos hold the frames they were given."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from oneiros.data.video import decode, probe
from oneiros.eval.pictures import DREAMED, GIVEN, animation, beside, enlarge, save_frames

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)


def test_beside_keeps_rows_in_order_under_a_bar_that_tells_given_from_dreamed():
    joined = beside([FRAMES, 255 - FRAMES], num_given=2, gap=3, bar=2)
    assert joined.shape == (5, 10, 15, 3)
    np.testing.assert_array_equal(joined[:, 2:, :6], FRAMES)
    np.testing.assert_array_equal(joined[:, 2:, 9:], 255 - FRAMES)
    assert (joined[:2, :2] == GIVEN).all()
    assert (joined[2:, :2] == DREAMED).all()


def test_enlarging_repeats_pixels_to_even_sizes():
    large = enlarge(FRAMES[:, :7, :5], smallest=20)
    assert large.shape == (5, 28, 20, 3)
    np.testing.assert_array_equal(large[:, ::4, ::4], FRAMES[:, :7, :5])


def test_an_animation_is_lossless_and_keeps_time():
    with Image.open(io.BytesIO(animation(FRAMES, fps=8))) as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 125
    np.testing.assert_array_equal(np.stack(frames), FRAMES)


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_moving_pictures_have_every_frame(tmp_path, ending):
    path = tmp_path / f"dream{ending}"
    save_frames(enlarge(FRAMES, 64), path, fps=9)
    if ending == ".mp4":
        assert (probe(path).num_frames, probe(path).fps) == (5, 9.0)
        seen = np.stack(list(decode(path, 0, 5, fps=9)))
    else:
        with Image.open(path) as image:
            seen = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    assert np.abs(seen.astype(int) - enlarge(FRAMES, 64)).mean() < 12
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_strip_lines_frames_up(tmp_path):
    save_frames(FRAMES, tmp_path / "a" / "strip.png", fps=1)
    strip = np.asarray(Image.open(tmp_path / "a" / "strip.png"))
    np.testing.assert_array_equal(strip[:, 6:12], FRAMES[1])
    assert strip.shape == (8, 30, 3)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dream.avi ends in '.avi'; choose .mp4, .gif, .webp, .png"):
        save_frames(FRAMES, tmp_path / "dream.avi", fps=9)
