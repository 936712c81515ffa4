"""`oneiros dream`: the video shows the real episode beside the dream, or the dream alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneiros.cli import main
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.pictures import DREAMED, GIVEN
from oneiros.data.video import probe
from tests.dot_runs import save_world, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dream")
    write_dataset(folder / "data")
    save_world(folder / "run", folder / "data")
    write_dataset(folder / "arm", "continuous", episodes=3, length=40)
    save_world(folder / "arm_run", kind="continuous", stride=3)
    return folder


def read_strip(path: Path, width: int) -> np.ndarray:
    """The frames of a strip at their true size, each `width` wide and 20 high: 16 pixels under a bar of 4."""
    strip = np.asarray(Image.open(path))
    scale = strip.shape[0] // 20
    return np.stack(np.split(strip[::scale, ::scale], strip.shape[1] // scale // width, axis=1))


def test_the_real_episode_stands_beside_the_dream(folder, tmp_path, capsys):
    out = tmp_path / "dream.png"
    main(["dream", str(folder / "run"), str(folder / "data"), "--episode", "3", "--out", str(out), "--context", "4"])
    said = capsys.readouterr().out
    assert re.search(r"26 frames dreamed from episode 3 \(which training has seen\), PSNR [\d.]+ dB", said)
    frames = read_strip(out, width=34)
    assert len(frames) == 30
    assert (frames[:4, 0] == GIVEN).all()
    assert (frames[4:, 0] == DREAMED).all()
    np.testing.assert_array_equal(frames[:, 4:, :16], Dataset.open(folder / "data").frames(3))
    np.testing.assert_array_equal(frames[:4, 4:, 18:], frames[:4, 4:, :16])


def test_by_default_a_held_out_episode_is_dreamed(folder, tmp_path, capsys):
    out = tmp_path / "dream.mp4"
    main(["dream", str(folder / "run"), str(folder / "data"), "--frames", "5", "--out", str(out), "--start", "2"])
    assert "5 frames dreamed from episode 7, PSNR" in capsys.readouterr().out
    assert (probe(out).num_frames, probe(out).fps) == (13, 10.0)


def test_a_script_is_followed_by_the_dream_alone(folder, tmp_path, capsys):
    out = tmp_path / "turn.png"
    main(["dream", str(folder / "run"), str(folder / "data"), "--actions", "left*3,up+right", "--out", str(out)])
    assert "4 frames dreamed from episode 7 ->" in capsys.readouterr().out
    assert read_strip(out, width=16).shape == (12, 20, 16, 3)


def test_strides_and_pictures(folder, tmp_path, capsys):
    run, out = str(folder / "arm_run"), str(tmp_path / "strip.png")
    main(["dream", run, str(folder / "arm"), "--frames", "5", "--out", out])
    assert "5 frames dreamed from episode 2" in capsys.readouterr().out
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "photo.png")
    photo = str(tmp_path / "photo.png")
    main(["dream", run, "--image", photo, "--actions", "right=1*4", "--out", str(tmp_path / "p.gif")])
    assert f"4 frames dreamed from {photo}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{run}", "{data}", "--episode", "99"], "has no readable episode 99; it has 0 to 9"),
        (["{run}", "{data}", "--start", "25"], "leave nothing to dream beside"),
        (["{run}", "{data}", "--out", "dream.avi"], "ends in '.avi'; choose .mp4"),
        (["{run}", "{data}", "--actions", "jump"], "jump is not an action"),
        (["{run}", "{data}", "--actions", "left*2", "--frames", "3"], "3 frames need as many actions; there are 2"),
        (["{run}", "--image", "{photo}"], "needs --frames"),
        (["{run}", "{arm}"], "has continuous actions"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, tmp_path, capsys, options, message):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "photo.png")
    places = {"run": folder / "run", "data": folder / "data", "arm": folder / "arm", "photo": tmp_path / "photo.png"}
    with pytest.raises(SystemExit) as stopped:
        main(["dream", *(option.format(**places) for option in options)])
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert stopped.value.code == 2
    assert re.search(message, error)
    assert error.startswith("oneiros: ")
