"""`oneiros play --terminal` with piped input, as a person would type it."""

import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from oneiros.cli import main
from oneiros.cli.playing.terminal import _blocks
from tests.dot_runs import save_world, write_dataset
from tests.dot_world import SPECS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("play")
    for kind in SPECS:
        write_dataset(folder / f"data_{kind}", kind, episodes=2, length=12)
        save_world(folder / kind, folder / f"data_{kind}", kind, held_out=(1,))
    save_world(folder / "none", kind=None)
    return folder


@pytest.fixture
def play(folder, tmp_path, monkeypatch, capsys):
    """Types lines at a world and returns what was said; frames and actions land in tmp_path/played."""

    def run(typed: str, *options: str, kind: str = "keys") -> str:
        data = ("--data", str(folder / f"data_{'keys' if kind == 'none' else kind}"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        main(["play", str(folder / kind), "--terminal", *data, *options])
        return capsys.readouterr().out

    return run


def saved(folder) -> tuple[dict, list[np.ndarray]]:
    frames = [np.asarray(Image.open(path)) for path in sorted((folder / "frames").iterdir())]
    return json.loads((folder / "actions.json").read_text()), frames


def test_names_keys_together_repeats_and_enter(play, tmp_path):
    said = play("left\nLEFT+up+left\n2*3\n\nquit\nright\n")
    record, frames = saved(tmp_path / "played")
    assert record["script"] == "left,left+up,up*4"
    assert record["actions"][1] == [True, False, True, False]
    assert len(frames) == 7
    assert "7 frames and 6 actions are in played" in said
    assert (tmp_path / "played" / "played.mp4").is_file()


def test_what_is_no_action_is_asked_again_and_costs_nothing(play, tmp_path):
    said = play("7\njump\nleft\n")
    assert "7 is not an action; choose from 0 left, 1 right, 2 up, 3 down; none = hold nothing" in said
    assert "jump is not an action" in said
    assert saved(tmp_path / "played")[0]["script"] == "left"


def test_numbers_with_commas_are_asked_about_where_keys_can_be_held_together(play, tmp_path):
    out = play("0,1\n0+1\n0*1,1*1\nleft,right\nquit\n")
    assert "held together, 0,1 is 0+1; frame after frame it is 0*1,1*1" in out
    assert "a comma goes on to the next frame" in out
    record, _ = saved(tmp_path / "played")
    assert [sum(held) for held in record["actions"]] == [2, 1, 1, 1, 1]


def test_discrete_and_continuous_worlds(play, tmp_path):
    said = play("\nup\n4\n", kind="discrete")
    assert "nothing to repeat yet; choose from 0 stay" in said
    assert saved(tmp_path / "played")[0]["actions"] == [3, 4]
    said = play("right=1\n0.5 -1\n0.5\n", kind="continuous")
    assert "'0.5' holds 1 values; an action here is 2 numbers (down, right)" in said
    assert saved(tmp_path / "played-2")[0]["actions"] == [[0.0, 1.0], [0.5, -1.0]]


def test_a_world_without_actions_dreams_by_itself(play, tmp_path):
    said = play("\n3\nleft\n", kind="none")
    assert "left is not a number of frames" in said
    assert len(saved(tmp_path / "played")[1]) == 5


@pytest.mark.parametrize("digits", [10, 400, 5000])
@pytest.mark.parametrize("kind", ["keys", "discrete", "continuous", "none"])
def test_numbers_without_end_are_asked_again(play, tmp_path, kind, digits):
    nines = "9" * digits
    said = play(f"{nines}\nleft*{nines}\n{nines} {nines}\n1e300 1\ndown={nines}\n\n", kind=kind)
    assert len(said) < 4 * (2 * digits + 300) + 4000  # what was typed, and lines that a screen holds
    assert "is not a" in said
    assert "set_int_max_str_digits" not in said


def test_what_is_no_text_is_asked_again(play, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"left\n\xff\xfe\nleft\n"), "utf-8"))
    main(["play", str(folder / "keys"), "--terminal", "--data", str(folder / "data_keys")])
    assert saved(tmp_path / "played")[0]["script"] == "left*2"


def test_weights_that_are_no_numbers_are_refused_in_one_line(tmp_path, folder, capsys):
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "keys", tmp_path / "diverged")
    path = tmp_path / "diverged" / "model.safetensors"
    weights = load_file(path)
    name, tensor = next((name, tensor) for name, tensor in weights.items() if tensor.is_floating_point())
    tensor.view(-1)[0] = float("nan")
    save_file(weights, path)
    data = str(folder / "data_keys")
    for verb in (["play", str(path.parent), "--terminal", "--data", data], ["dream", str(path.parent), data]):
        with pytest.raises(SystemExit) as refused:
            main(verb)
        assert refused.value.code == 2
        complaint = capsys.readouterr().err
        assert f"is damaged: {name} and 0 more hold no finite numbers" in complaint
        assert complaint.count("\n") == 1


def test_a_seed_and_the_same_actions_give_the_same_frames(play, tmp_path):
    play("left*4\n", "--seed", "5", "--out", "a")
    play("left*4\n", "--seed", "5", "--out", "b")
    play("left*4\n", "--seed", "6", "--out", "c")
    a, b, c = (np.stack(saved(tmp_path / name)[1]) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_newest_frame_is_kept_in_a_file(play, tmp_path):
    play("left*2\n", "--save-frame", "now/frame.png", "--start", "0")
    _, frames = saved(tmp_path / "played")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "now" / "frame.png")), frames[-1])


def test_ctrl_c_saves_what_was_played(play, tmp_path, monkeypatch, folder):
    answers = iter(["left*2"])

    def ask(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(SystemExit) as stopped:
        play("")
    assert stopped.value.code == 130
    assert saved(tmp_path / "played")[0]["script"] == "left*2"


def test_the_real_environment_plays_through_the_same_code(tmp_path, monkeypatch, capsys):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("MOVE_FORWARD*2\n"))
    main(["play", "doom:health_gathering", "--terminal", "--seed", "1"])
    assert len(saved(tmp_path / "played")[1]) == 3
    assert "frame 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere", "--terminal"], "nowhere is no run folder"),
        (["{run}", "--port", "70000"], "port 70000 does not exist"),
        (["{run}", "--sessions", "0"], "at least 1 must be able to play"),
        (["{run}", "--terminal"], "holds no starts.safetensors"),
        (["{run}", "--terminal", "--image", "none.png"], "none.png cannot be read as a picture"),
        (["{run}", "--terminal", "--data", "{data}", "--start", "99"], "start 99 does not exist"),
        (["{run}", "--terminal", "--data", "{run}"], "is no dataset|no LeRobot|not a"),
        (["{run}", "--terminal", "--data", "{data}", "--temperature", "-1"], "temperature is -1"),
        (["{run}", "--terminal", "--engine", "onnx", "--guidance", "2"], "neither guidance nor top-k"),
        (["{run}", "--terminal", "--engine", "onnx", "--device", "cuda"], "leave --device out"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, capsys, options, message):
    places = {"run": folder / "keys", "data": folder / "data_keys"}
    with pytest.raises(SystemExit) as stopped:
        main(["play", *(option.format(**places) for option in options)])
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert re.search(message, error)
    assert error.startswith("oneiros: ")
    assert "\n" not in error


def test_a_frame_is_drawn_in_half_blocks_that_fit_the_terminal():
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[0] = (255, 0, 0)
    console = Console(force_terminal=True, color_system="truecolor", width=200, height=60, file=io.StringIO())
    console.print(_blocks(frame, console))
    lines = console.file.getvalue().strip().split("\n")
    assert len(lines) == 32
    assert "38;2;255;0;0;48;2;0;0;0" in lines[0]
    assert "38;2;255;0;0" not in lines[1]
    small = Console(force_terminal=True, color_system="truecolor", width=30, height=14, file=io.StringIO())
    small.print(_blocks(frame, small))
    assert len(small.file.getvalue().strip().split("\n")) == 10
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("nothing-here", "nothing-here: there is no such run folder"),
        (".", "is no run folder: it has no config.json"),
        ("foo:bar", "'foo:bar' is no environment"),
        ("gym:Nonsense-v0", "gym:Nonsense-v0 is not a registered environment"),
    ],
)
def test_no_page_is_served_for_what_is_not_there(tmp_path, monkeypatch, capsys, run, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["play", run, "--no-browser", "--port", "0"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("oneiros: ")
    assert told in err
    assert "http://" not in out
