"""Strips, animations and videos hold the frames they were given."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from oneiros.data.pictures import DREAMED, GIVEN, beside, encode, enlarge, frame_rows, save_frames, save_strips
from oneiros.data.video import decode, probe

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
    with Image.open(io.BytesIO(encode(FRAMES, ".webp", fps=8))) as image:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 125
    np.testing.assert_array_equal(np.stack(frames), FRAMES)


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webp"])
def test_moving_pictures_have_every_frame(tmp_path, ending):
    path = tmp_path / f"dream{ending}"
    save_frames(enlarge(FRAMES, 64), path, fps=9)
    if ending == ".mp4":
        assert (probe(path).num_frames, probe(path).fps) == (5, 9.0)
        seen = np.stack(list(decode(path, 0, 5)))
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


def test_frames_stand_in_order_enlarged_without_smoothing_with_a_gap_after_those_given(tmp_path):
    shades = np.arange(1, 5, dtype=np.uint8) * 60
    frames = np.broadcast_to(shades[:, None, None, None], (4, 48, 48, 3))
    save_strips(tmp_path / "a.png", "title", [[("real", frames), ("dreamed", frames[::-1])]], num_given=2)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    for order, row in ((shades, 24 + 48), (shades[::-1], 24 + 96 + 48)):
        line = picture[row, :, 0]
        runs = [(value, len(part)) for value, part in _runs(line) if value in shades and len(part) >= 96]
        assert runs == [(shade, 96) for shade in order]
    between = picture[24 + 48, :, 0]
    second, third = (np.flatnonzero(between == shade) for shade in shades[1:3])
    assert third[0] - second[-1] > 10
    assert len(list(tmp_path.iterdir())) == 1


def _runs(line):
    edges = np.flatnonzero(np.diff(line.astype(int))) + 1
    return [(part[0], part) for part in np.split(line, edges)]


def test_depth_has_a_row_of_its_own():
    frames = torch.zeros(2, 4, 8, 8)
    frames[:, 3] = 1.0
    (colour, depth) = frame_rows("real", frames)
    assert [colour[0], depth[0]] == ["real", "real depth"]
    assert (depth[1] == 255).all()


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_frames_may_come_one_by_one(ending):
    assert encode(iter(FRAMES), ending, fps=9) == encode(FRAMES, ending, fps=9)
