"""A dataset becomes a tokenizer's run folder."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from oneiros.loading import load
from oneiros.run_folder import read_config, read_origin
from oneiros.train.log import read_metrics
from oneiros.train.order import Order
from oneiros.train.state import load_state
from oneiros.world.training import tokenizer
from tests.recorded import SIZE, record, tokenizer_settings


def run_until_ctrl_c(run, settings, step_to_stop: int, *, asks: str = "indices") -> None:
    """Press Ctrl-C while the batch of a step (from 0) is being made, for which the order is asked."""
    method = getattr(Order, asks)

    def interrupting(self, step, samples):
        if step == step_to_stop:
            os.kill(os.getpid(), signal.SIGINT)
        return method(self, step, samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Order, asks, interrupting)
        with pytest.raises(KeyboardInterrupt):
            run(settings)


def test_run_folder(tokenizer_run):
    for name in ("config.json", "model.safetensors", "state.pt", "metrics.jsonl", "environment.json"):
        assert (tokenizer_run / name).is_file()
    config = read_config(tokenizer_run)
    assert config.kind == "tokenizer"
    assert config.recipe["preset"] == "tiny"
    assert read_origin(tokenizer_run).held_out == (5,)
    assert read_origin(tokenizer_run).train == (0, 1, 2, 3, 4)
    model = load(tokenizer_run)
    assert model.grid == (SIZE // 8, SIZE // 8)


def test_frames_are_learned_and_held_out_ones_measured(tokenizer_run):
    rows = [row for row in read_metrics(tokenizer_run / "metrics.jsonl") if "held_out/psnr" in row]
    assert [row["step"] for row in rows] == [60, 120, 150]
    assert rows[-1]["held_out/psnr"] > 15


def test_augmented_frames_are_learned_from_too(recording, tokenizer_run, tmp_path):
    cache = tokenizer_run / "cache"
    for name, augment in (("plain", False), ("augmented", True)):
        tokenizer.run(tokenizer_settings(recording, tmp_path / name, steps=1, cache=cache, augment=augment))
    plain, augmented = (read_metrics(tmp_path / name / "metrics.jsonl")[-1] for name in ("plain", "augmented"))
    assert plain["loss"] != augmented["loss"]


def test_picture_shows_real_frames_above_reconstructions(tokenizer_run):
    picture = np.asarray(Image.open(tokenizer_run / "pictures" / "step_000150.png"))
    assert picture.shape[0] >= 2 * 96
    assert picture.shape[1] >= 8 * 96
    yellow = (abs(picture.astype(int) - (220, 200, 40)).max(-1) < 40).sum(1)
    assert yellow[24:120].max() >= 8 * 6 * 3  # eight real frames, enlarged three times, with a square 8 pixels wide


def test_ctrl_c_then_resume_is_the_run_that_never_stopped(recording, tokenizer_run, tmp_path):
    """With everything that a tokenizer remembers: the codebook, its running sums, the codes that were never used."""
    cache = tokenizer_run / "cache"
    tokenizer.run(tokenizer_settings(recording, tmp_path / "whole", cache=cache))
    run_until_ctrl_c(tokenizer.run, tokenizer_settings(recording, tmp_path / "parts", cache=cache), 17)
    assert load_state(tmp_path / "parts")["step"] == 18
    tokenizer.run(tokenizer_settings(recording, tmp_path / "parts", cache=cache, resume=True))
    whole, parts = (load_state(tmp_path / name)["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_settings_not_given_are_those_of_the_run_to_resume(recording, tmp_path):
    settings = tokenizer_settings(recording, tmp_path / "run", steps=4, batch_size=6, seed=3, lr=1e-3)
    tokenizer.run(settings)
    again = type(settings)(data=recording, out=tmp_path / "run", steps=6, resume=True)
    assert again.completed() == tokenizer_settings(
        recording, tmp_path / "run", steps=6, batch_size=6, seed=3, lr=1e-3, resume=True
    )
    assert tokenizer.run(again).step == 6


def test_a_dataset_that_has_grown_is_refused_before_a_held_out_episode_is_learned_from(recording, tmp_path):
    data = shutil.copytree(recording, tmp_path / "data")
    settings = tokenizer_settings(data, tmp_path / "run", steps=2, batch_size=4)
    tokenizer.run(settings)
    moved = data.rename(tmp_path / "moved")
    assert tokenizer.run(replace(settings, data=moved, steps=3, resume=True)).step == 3
    record(moved, num_episodes=1)
    config = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"moved: has other episodes than .*run began with, .* start a new run"):
        tokenizer.run(replace(settings, data=moved, steps=4, resume=True))
    assert (tmp_path / "run" / "config.json").read_bytes() == config


def test_data_that_have_grown_keep_what_was_held_out(recording, tmp_path):
    data = shutil.copytree(recording, tmp_path / "data")
    settings = tokenizer_settings(data, tmp_path / "run", steps=2, batch_size=4)
    tokenizer.run(settings)
    assert read_origin(tmp_path / "run").held_out == (5,)
    record(data, num_episodes=1)
    for again in (replace(settings, steps=3, resume=True, data_changed=True), replace(settings, steps=4, resume=True)):
        tokenizer.run(again)
        origin = read_origin(tmp_path / "run")
        assert (origin.train, origin.held_out) == ((0, 1, 2, 3, 4, 6), (5,))
    assert "data_changed" not in read_config(tmp_path / "run").recipe


def test_the_same_episodes_in_other_files_are_refused_unless_told(recording, tmp_path):
    data = shutil.copytree(recording, tmp_path / "data")
    settings = tokenizer_settings(data, tmp_path / "run", steps=2, batch_size=4)
    tokenizer.run(settings)
    shutil.rmtree(data)
    record(data, depth=True)
    with pytest.raises(ValueError, match=r"data: has other files than .*run began with, .*--data-changed"):
        tokenizer.run(replace(settings, steps=3, resume=True))
    assert tokenizer.run(replace(settings, steps=3, resume=True, data_changed=True)).step == 3


def test_data_without_any_episode_held_out_before_cannot_go_on(recording, tmp_path):
    settings = tokenizer_settings(recording, tmp_path / "run", steps=2, batch_size=4)
    tokenizer.run(settings)
    fewer = record(tmp_path / "fewer", num_episodes=3)
    with pytest.raises(ValueError, match=r"to hold out \(number 5\)"):
        tokenizer.run(replace(settings, data=fewer, steps=3, resume=True, data_changed=True))


def test_a_longer_run_keeps_its_warm_up(recording, tokenizer_run, tmp_path):
    settings = tokenizer_settings(recording, tmp_path, steps=20, batch_size=4, cache=tokenizer_run / "cache")
    tokenizer.run(settings)
    tokenizer.run(replace(settings, steps=40, resume=True))
    assert load_state(tmp_path)["step"] == 40
    assert load_state(tmp_path)["config"]["warmup_steps"] == 2


def test_warm_start_begins_with_the_other_run(recording, tokenizer_run, tmp_path, capsys):
    settings = tokenizer_settings(recording, tmp_path, steps=1, lr=1e-9, warm_start=tokenizer_run, preset="small")
    tokenizer.run(settings)
    theirs, ours = load(tokenizer_run), load(tmp_path)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    assert "began with" in capsys.readouterr().err


def test_depth_is_a_fourth_channel(tmp_path):
    data = record(tmp_path / "data", depth=True, num_episodes=2)
    tokenizer.run(tokenizer_settings(data, tmp_path / "run", steps=2, depth=True))
    assert load(tmp_path / "run").config.channels == 4
    assert read_origin(tmp_path / "run").depth_camera.kind == "depth"


def test_depth_that_was_not_recorded(recording, tmp_path):
    with pytest.raises(ValueError, match="depth camera"):
        tokenizer.run(tokenizer_settings(recording, tmp_path, depth=True))


def test_too_little_room_for_decoded_frames(recording, tmp_path, monkeypatch):
    monkeypatch.setattr("oneiros.disk.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="180 decoded frames take 1 MB, only 0 MB are free"):
        tokenizer.run(tokenizer_settings(recording, tmp_path / "run"))


@pytest.fixture(scope="module")
def whole_run(recording, tokenizer_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    tokenizer.run(tokenizer_settings(recording, out, cache=tokenizer_run / "cache", steps=12, batch_size=8))
    return out


def assert_same_learning(run, expected) -> None:
    """But for rounding: in the losses, and in the codebook, which k-means begins with the first step's samples."""
    ours, theirs = (load_state(folder)["model"] for folder in (run, expected))
    torch.testing.assert_close(ours["codebook"], theirs["codebook"], rtol=1e-3, atol=1e-4)
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (run, expected))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-3)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_changes_nothing(recording, tokenizer_run, whole_run, tmp_path, accumulate):
    options = {"cache": tokenizer_run / "cache", "steps": 12, "batch_size": 8}
    tokenizer.run(tokenizer_settings(recording, tmp_path, accumulate=accumulate, **options))
    assert_same_learning(tmp_path, whole_run)


def test_two_processes_learn_one_codebook_from_all_samples(recording, tokenizer_run, whole_run, tmp_path):
    flags = ["--cache", tokenizer_run / "cache", "--steps", 12, "--batch-size", 8, "--accumulate", 2]
    flags += ["--height", SIZE, "--width", SIZE, "--preset", "tiny", "--precision", "float32"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=localhost"]
    command = [*launcher, "--nproc-per-node=2", "-m", "oneiros", "train", "tokenizer", recording, *flags]
    command = [*map(str, command), "--out", str(tmp_path / "two")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert_same_learning(tmp_path / "two", whole_run)
