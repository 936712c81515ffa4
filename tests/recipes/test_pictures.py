"""Pictures for the person watching a run."""

import numpy as np
import torch
from PIL import Image

from oneiros.recipes.pictures import frame_rows, save_strips, spread


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


def test_spread_is_even_and_holds_both_ends():
    assert spread(3, 11) == [0, 5, 10]
    assert spread(5, 2) == [0, 1]
    assert spread(1, 9) == [0]
