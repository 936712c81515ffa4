"""Replay buffers laid out as diffusion policy's, written by zarr in its version 2."""

import json

import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run

zarr = pytest.importorskip("zarr")


@pytest.fixture
def replay(tmp_path):
    """Two episodes, of 6 and 5 rows; pictures are floats, as in the push-T of its authors."""
    group = zarr.open_group(str(tmp_path / "push.zarr"), mode="w", zarr_format=2)
    frames = np.stack([Counting.draw(number) for number in range(11)])
    rows = np.arange(11, dtype=np.float32)
    for name, values in (
        ("data/img", frames.astype(np.float32)),
        ("data/action", np.stack([rows, rows / 2], 1)),
        ("data/state", np.stack([rows, -rows, rows], 1)),
        ("meta/episode_ends", np.array([6, 11])),
    ):
        group.create_array(name, data=values, chunks=(4, *values.shape[1:]))
    return tmp_path / "push.zarr"


def test_episodes_end_where_the_buffer_says(replay, tmp_path):
    assert run(replay, "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data", strict=True)
    assert [episode.length for episode in data.episodes] == [6, 5]
    assert (data.fps, data.cameras[0].name) == (10, "observation.images.img")
    for episode in data.episodes:
        numbers = Counting.numbers(data, episode.index)
        assert data.actions(episode.index)[:, 0].tolist() == numbers
        assert (-data.states(episode.index)[:, 1]).tolist() == numbers


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"filters": [{"id": "pickle", "protocol": 5}]}, "filtered or not of numbers"),
        ({"dtype": "|O"}, "filtered or not of numbers"),
        ({"compressor": {"id": "imagecodecs_jpeg2k"}}, "is packed by imagecodecs_jpeg2k"),
    ],
)
def test_what_would_run_code_of_others_is_refused(replay, tmp_path, capsys, change, told):
    path = replay / "data" / "img" / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert run(replay, "--out", tmp_path / "data") == 2
    assert told in capsys.readouterr().err


def test_ends_that_do_not_rise(replay, tmp_path, capsys):
    zarr.open_group(str(replay), mode="r+", zarr_format=2)["meta/episode_ends"][:] = [11, 6]
    assert run(replay, "--out", tmp_path / "data") == 2
    assert "meta/episode_ends must rise, up to the 11 rows" in capsys.readouterr().err
