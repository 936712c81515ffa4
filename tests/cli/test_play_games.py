"""What `oneiros play` gives the browser's players: dreams of colour and depth, real environments."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from oneiros.cli.play import Play, _choices, _game
from oneiros.data.depth import depth_to_codes
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.source import FrameSource
from oneiros.records import ActionSpec, Camera
from oneiros.run_folder import Origin
from oneiros.web.messages import HEADER, Extras, Reset, TakeStep
from oneiros.web.model_thread import ModelThread
from oneiros.web.recorder import Recorder
from oneiros.web.session import Session
from oneiros.world import built_in
from oneiros.world.config import WorldConfig
from oneiros.world.model import World
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig
from tests.recorded import record

KEYS = ActionSpec("keys", ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD"))
DEPTH = Camera(
    "observation.depth.front", 16, 16, "depth", fx=8.0, fy=8.0, cx=7.5, cy=7.5, depth_min=0.4, depth_max=28.0
)
METRES = np.linspace(1, 20, 256, dtype=np.float32).reshape(16, 16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained world of colour and depth."""
    torch.manual_seed(0)
    size = {"height": 16, "width": 16, "channels": 4}
    tokenizer = Tokenizer(TokenizerConfig(**size, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1))
    config = WorldConfig(action_spec=KEYS, fps=9.0, dim=32, depth=1, head_dim=16, tokens_per_step=2, window=4)
    folder = tmp_path_factory.mktemp("game") / "world"
    origin = Origin(environment="doom:health_gathering", depth_camera=DEPTH)
    World(config, tokenizer).save(folder, data=origin)
    codes = depth_to_codes(METRES, DEPTH)
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), np.uint8)
    both = np.stack([codes & 255, codes >> 8], -1).astype(np.uint8)
    frames = np.concatenate([colours, np.broadcast_to(both, (2, 3, 16, 16, 2))], -1)
    save_file({"frames": torch.from_numpy(frames)}, folder / "starts.safetensors")
    return folder


def test_a_dream_of_colour_and_depth(run, tmp_path):
    game = _game(Play(run=str(run), threads=1))
    info = json.loads(json.dumps(game.info()))
    assert (info["kind"], info["channels"], info["beside"], info["thoughts"]) == ("dream", 4, True, True)
    assert info["depth"] == {"min": 0.4, "max": 28.0, "fx": 8.0, "fy": 8.0, "cx": 7.5, "cy": 7.5}
    assert len(game.pictures) == info["num_starts"] == 2
    recorder = Recorder(tmp_path / "played", game)
    model_thread = ModelThread(shared=game.dreams)
    session = Session(game, recorder, model_thread)
    try:
        model_thread.run(game.prepare)
        first = session.answer(Reset(1, 0, 1, Extras(depth=True)))
        assert isinstance(first, bytes)
        millimetres = np.frombuffer(first, "<u2", 256, 28 + 768).reshape(16, 16)
        np.testing.assert_allclose(millimetres, METRES * 1000, rtol=0.005)
        second = session.answer(TakeStep(2, [0, 0, 1], Extras(depth=True, think=True)))
        assert isinstance(second, bytes)
        assert HEADER.unpack_from(second)[2] == 1 | 4
        assert b'"MOVE_FORWARD"' in second
    finally:
        session.close()
        model_thread.close()


def test_depth_and_colour_are_recorded_together(run, tmp_path):
    from oneiros.web.messages import SetRecording

    game = _game(Play(run=str(run), threads=1))
    recorder = Recorder(tmp_path / "played", game)
    model_thread = ModelThread(shared=game.dreams)
    session = Session(game, recorder, model_thread)
    session.answer(Reset(1, 0, 1, Extras()))
    session.answer(SetRecording(2, True))
    session.answer(TakeStep(3, [0, 0, 1], Extras()))
    session.close()
    recorder.close()
    model_thread.close()
    played = Dataset.open(tmp_path / "played", strict=True)
    assert played.info["robot_type"] == "dream:doom:health_gathering"
    assert [camera.kind for camera in played.cameras] == ["rgb", "depth"]
    np.testing.assert_allclose(played.depth(0)[0], METRES, rtol=0.01)


def test_an_environment_that_a_run_names_is_offered_only_where_it_is_built_in(run, tmp_path, monkeypatch):
    stranger = tmp_path / "run"
    shutil.copytree(run, stranger)
    (stranger / "evil.py").write_text('import pathlib; pathlib.Path("ran").touch()')
    config = json.loads((stranger / "config.json").read_text())
    config["data"]["environment"] = "gym:run.evil:Ball-v0"
    (stranger / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert _game(Play(run="run", threads=1)).make_beside is None
    assert _game(Play(run="run", threads=1, beside="gym:run.evil:Ball-v0")).make_beside is not None
    assert not (tmp_path / "ran").exists()


def test_a_real_environment():
    pytest.importorskip("vizdoom")
    game = _game(Play(run="doom:health_gathering", height=30, width=40))
    info = game.info()
    assert (info["kind"], info["width"], info["height"], info["channels"]) == ("env", 40, 30, 4)
    assert (info["beside"], info["num_starts"], info["sampling"]) == (False, 0, None)
    assert info["action_spec"]["names"] == list(KEYS.names)


def test_training_tells_how_depth_is_coded_and_where_it_comes_from(tmp_path):
    data = Dataset.open(record(tmp_path / "data", depth=True))
    config = TokenizerConfig(height=16, width=16, channels=4, codebook_size=16, code_dim=8, codec_width=8)
    origin = FrameSource(data, config.size, config.depth, None, tmp_path / "cache").held_out([5]).origin
    camera = origin.depth_camera
    assert (camera.height, camera.depth_max, camera.kind) == (16, 10.0, "depth")
    assert origin.environment == "unknown"
    flat = FrameSource(data, (16, 16), False, None, tmp_path / "cache").held_out([5]).origin
    assert flat.depth_camera is None


def test_a_copy_without_a_world_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(built_in, "_FOLDER", tmp_path)
    for make in (_game, _choices):
        with pytest.raises(ValueError, match="has no world built in; name the run folder of one"):
            make(Play())


def test_what_nobody_names_is_chosen_among_the_worlds_built_in():
    choices = _choices(Play())
    assert list(choices) == list(built_in.bundled_worlds())
    assert "health_gathering" in choices
    for choice in choices.values():
        assert choice.picture.shape == (64, 64, 3)
        assert choice.picture.std() > 10
    assert choices["health_gathering"].title == "health gathering"
    assert list(_choices(Play(run="doom:basic"))) == [""]
    assert list(_choices(Play(image=Path("photo.png")))) == [""]


def test_a_world_built_in_is_played_by_its_name_unless_a_folder_has_it(monkeypatch, tmp_path):
    game = _game(Play(run="health_gathering", threads=1))
    assert game.action_spec.names == ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD")
    assert np.array_equal(game.pictures[0], _choices(Play())["health_gathering"].picture)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "health_gathering").mkdir()
    with pytest.raises(ValueError, match="health_gathering"):
        _game(Play(run="health_gathering"))


@pytest.mark.parametrize("run", ["doom:nowhere", "nowhere"])
def test_what_is_not_there_is_named(run):
    pytest.importorskip("vizdoom")
    with pytest.raises(ValueError, match="nowhere"):
        _game(Play(run=run))
