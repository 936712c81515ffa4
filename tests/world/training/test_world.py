"""A dataset and a tokenizer, or codes alone, become a world's run folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from oneiros.data.episodes.clips import Clips, load_frames
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_model, to_uint8
from oneiros.loading import load
from oneiros.records import ActionSpec
from oneiros.run_folder import read_config, read_origin
from oneiros.sampling import Sampling
from oneiros.train.log import read_metrics
from oneiros.train.state import load_state
from oneiros.world import codes, encoding
from oneiros.world.metrics import psnr
from oneiros.world.recorded import load_clips
from oneiros.world.rollout import begin, context_of, roll
from oneiros.world.training import tokenizer, world
from oneiros.world.training.held_out import draw
from tests.places import ROOT
from tests.recorded import LENGTH, NUM_STEPS, SIZE, SPEC, XY, record, tokenizer_settings, world_settings
from tests.world.training.test_tokenizer import run_until_ctrl_c
from tests.world.worlds import make_world


def codes_folder(tokenizer_run: Path) -> Path:
    (folder,) = (tokenizer_run / "cache").glob("codes-*")
    return folder


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (load_state(run)["model"] for run in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(run / "metrics.jsonl")]


def test_run_folder_holds_all_that_playing_needs(world_run, tokenizer_run):
    config = read_config(world_run)
    assert config.kind == "world"
    assert read_origin(world_run).held_out == (5,)
    assert config.model["fps"] == 10
    model = load(world_run)
    assert model.config.action_spec == SPEC
    assert torch.equal(model.tokenizer.codebook, load(tokenizer_run).codebook)
    starts = load_file(world_run / "starts.safetensors")
    assert starts["frames"].dtype == torch.uint8
    assert starts["frames"].shape[1:] == (8, SIZE, SIZE, 3)
    assert starts["actions"].shape == (len(starts["frames"]), 7)


def test_held_out_clips_are_measured_and_drawn(world_run):
    row = read_metrics(world_run / "metrics.jsonl")[-1]
    for name in ("state", "accuracy", "action", "psnr_1", "psnr_4", "copy_psnr_4", "psnr_8", "copy_psnr_8"):
        assert f"held_out/{name}" in row
    picture = Image.open(world_run / "pictures" / "step_000024.png")
    assert picture.width >= (3 + 8) * 96
    assert picture.height >= 3 * 2 * 96


def test_dreams_pictured_in_training_are_drawn_as_in_play(world_run, recording, tmp_path):
    world = load(world_run)
    clip = load_clips(world, world_run, Dataset.open(recording), (5,), length=16).batch([0, 3])
    numbers = draw(world, clip, 1, tmp_path / "picture.png")
    dream = roll(world, begin(world, context_of(clip, 8)), clip.actions[:, 7:], num_frames=8, sampling=Sampling())[0]
    for horizon in (1, 4, 8):
        real = to_uint8(clip.frames[:, 7 + horizon])
        assert numbers[f"held_out/psnr_{horizon}"] == pytest.approx(float(psnr(dream[:, horizon - 1], real).mean()))


def test_starts_are_the_first_frames_of_held_out_clips(world_run, recording):
    frames = Dataset.open(recording).frames(5)
    starts = load_file(world_run / "starts.safetensors")["frames"].numpy()
    assert np.array_equal(starts[0], frames[:8])


def test_codes_on_disk_are_the_frames_encoded(world_run, recording, tokenizer_run):
    model, dataset = load(tokenizer_run), Dataset.open(recording)
    known = codes.read_codes(codes_folder(tokenizer_run), model)
    assert [episode.index for episode in known.train] == [0, 1, 2, 3, 4]
    for episode in (known.train[0], known.held_out[0]):
        frames = to_model(dataset.frames(episode.index))
        assert np.array_equal(episode.content, model.encode(frames[:, None])[:, 0].numpy())
        assert np.array_equal(episode.actions, dataset.actions(episode.index))


def test_codes_are_made_once(world_run, recording, tokenizer_run, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "encode_shard", lambda *_: pytest.fail("encoded again"))
    world.run(world_settings(tmp_path, data=recording, tokenizer=tokenizer_run, steps=1))


def test_a_cache_that_leads_out_of_a_strangers_tokenizer_is_not_written(recording, tokenizer_run, tmp_path):
    stranger = shutil.copytree(tokenizer_run, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    (stranger / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="through a symbolic link; nothing is written there"):
        world.run(world_settings(tmp_path / "world", data=recording, tokenizer=stranger, steps=1))
    assert not (tmp_path / "elsewhere").exists()


def test_augmented_clips_are_learned_from_as_frames(recording, tokenizer_run, tmp_path):
    for name, augment in (("plain", False), ("augmented", True)):
        settings = world_settings(tmp_path / name, data=recording, tokenizer=tokenizer_run, steps=1, augment=augment)
        world.run(settings)
    assert losses(tmp_path / "plain") != losses(tmp_path / "augmented")


def test_codes_cannot_be_augmented(world_run, tokenizer_run, tmp_path):
    with pytest.raises(ValueError, match="--augment"):
        world.run(world_settings(tmp_path / "run", codes=codes_folder(tokenizer_run), augment=True))


def test_codes_alone_train_the_same_world(world_run, tokenizer_run, tmp_path):
    moved = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    world.run(world_settings(tmp_path / "run", codes=moved))
    assert_same_weights(tmp_path / "run", world_run)
    assert (tmp_path / "run" / "tokenizer" / "model.safetensors").is_file()
    assert load_file(tmp_path / "run" / "starts.safetensors")["frames"].shape[1:] == (8, SIZE, SIZE, 3)


def test_codes_of_another_tokenizer_are_refused(world_run, recording, tokenizer_run, tmp_path):
    tokenizer.run(tokenizer_settings(recording, tmp_path / "other", steps=1, cache=tokenizer_run / "cache"))
    with pytest.raises(ValueError, match="were made by another tokenizer"):
        world.run(world_settings(tmp_path / "run", codes=codes_folder(tokenizer_run), tokenizer=tmp_path / "other"))


def test_codes_of_other_data_are_refused_by_a_run_that_goes_on(world_run, tokenizer_run, tmp_path):
    moved = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    settings = world_settings(tmp_path / "run", codes=moved, steps=1)
    world.run(settings)
    index = json.loads((moved / "codes.json").read_text())
    index["origin"] |= {"fingerprint": "0123456789abcdef", "train": [*index["origin"]["train"], 6]}
    (moved / "codes.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"codes: has other episodes than .*run began with"):
        world.run(replace(settings, steps=2, resume=True))
    assert world.run(replace(settings, steps=2, resume=True, data_changed=True)).step == 2


def test_data_that_have_grown_keep_what_was_held_out(recording, tokenizer_run, tmp_path):
    """Although codes of theirs are in the cache, which another run made and split anew."""
    data, cache = shutil.copytree(recording, tmp_path / "data"), tmp_path / "cache"
    begun = {"data": data, "tokenizer": tokenizer_run, "cache": cache}
    world.run(world_settings(tmp_path / "run", steps=1, **begun))
    record(data, num_episodes=1)
    world.run(world_settings(tmp_path / "other", steps=1, **begun))
    assert read_origin(tmp_path / "other").held_out == (6,)
    world.run(world_settings(tmp_path / "run", steps=2, resume=True, data_changed=True, **begun))
    origin = read_origin(tmp_path / "run")
    assert (origin.train, origin.held_out) == ((0, 1, 2, 3, 4, 6), (5,))


def test_changed_data_of_other_actions_are_refused(recording, tokenizer_run, tmp_path):
    begun = {"tokenizer": tokenizer_run, "cache": tmp_path / "cache"}
    world.run(world_settings(tmp_path / "run", data=recording, steps=1, **begun))
    other = record(tmp_path / "other", spec=XY)
    with pytest.raises(ValueError, match=r"other has continuous actions \(x, y\); .*run knows discrete"):
        world.run(world_settings(tmp_path / "run", data=other, steps=2, resume=True, data_changed=True, **begun))


@pytest.mark.parametrize(
    "spoil", [lambda actions: actions + 2, lambda actions: actions[:, None], lambda actions: actions[:9]]
)
def test_codes_whose_actions_are_others_than_their_names(world_run, tokenizer_run, tmp_path, spoil):
    broken = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    np.save(broken / "actions.npy", spoil(np.load(broken / "actions.npy")))
    with pytest.raises(ValueError, match=rf"^{broken} is damaged: .*actions.*; delete it and encode again$"):
        world.run(world_settings(tmp_path / "run", codes=broken))


@pytest.mark.parametrize("damage", ["codes.json", "codes.npy", "actions.npy"])
def test_damaged_codes_are_one_clear_line(world_run, tokenizer_run, tmp_path, damage):
    broken = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    (broken / damage).write_bytes((broken / damage).read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"^{broken} is damaged: .*; delete it and encode again$"):
        world.run(world_settings(tmp_path / "run", codes=broken))


@pytest.mark.parametrize(
    "changes",
    [{"episodes": [{"index": 0, "length": -3, "task": ""}]}, {"episodes": 7}, {"fps": "fast"}, {"origin": []}, [], 7],
    ids=str,
)
def test_an_index_of_codes_that_is_wrong_is_one_clear_line(world_run, tokenizer_run, tmp_path, changes):
    broken = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    index = json.loads((broken / "codes.json").read_text())
    (broken / "codes.json").write_text(json.dumps({**index, **changes} if isinstance(changes, dict) else changes))
    with pytest.raises(ValueError, match=rf"^{broken} is damaged: .*; delete it and encode again$"):
        world.run(world_settings(tmp_path / "run", codes=broken))


def make_an_archive(path):
    with path.open("wb") as file:
        np.savez(file, np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        make_an_archive,
        lambda path: np.save(path, np.full_like(np.load(path), 2**15)),
        lambda path: np.save(path, np.load(path).astype("M8[s]")),
        lambda path: np.save(path, np.load(path)[:, :-1]),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
    ids=["archive", "codes beyond the codebook", "dates", "too few", "pipe"],
)
def test_codes_that_are_none_are_one_clear_line(world_run, tokenizer_run, tmp_path, damage):
    broken = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    damage(broken / "codes.npy")
    with pytest.raises(ValueError, match=rf"^{broken} is damaged: .* encode again$"):
        world.run(world_settings(tmp_path / "run", codes=broken))


@pytest.mark.parametrize("change", ["beyond", "another kind", "fewer"])
def test_actions_beside_codes_that_are_none_are_one_clear_line(world_run, tokenizer_run, tmp_path, change):
    broken = shutil.copytree(codes_folder(tokenizer_run), tmp_path / "codes")
    array = np.load(broken / "actions.npy")
    changed = {"beyond": np.full_like(array, 60_000), "another kind": array.astype("M8[s]"), "fewer": array[1:]}[change]
    np.save(broken / "actions.npy", changed)
    with pytest.raises(ValueError, match=rf"^{broken} is damaged: .*actions\.npy.*; delete it and encode again$"):
        world.run(world_settings(tmp_path / "run", codes=broken))


def test_a_folder_without_codes(tokenizer_run, tmp_path):
    with pytest.raises(ValueError, match=r"is no folder of codes: it has no codes\.json"):
        world.run(world_settings(tmp_path, codes=tokenizer_run))


def test_ctrl_c_then_resume_is_the_run_that_never_stopped(world_run, recording, tokenizer_run, tmp_path):
    settings = world_settings(tmp_path, data=recording, tokenizer=tokenizer_run)
    run_until_ctrl_c(world.run, settings, 6)
    world.run(type(settings)(out=tmp_path, resume=True))  # the rest is in the run folder
    assert_same_weights(tmp_path, world_run)
    assert losses(tmp_path) == losses(world_run)


def test_kill_9_then_resume_is_the_run_that_never_stopped(world_run, recording, tokenizer_run, tmp_path):
    """Through the command line, a real process and a real kill."""
    command = ["train", "world", recording, "--tokenizer", tokenizer_run, "--out", tmp_path, "--preset", "tiny"]
    command += ["--steps", str(NUM_STEPS), "--tokens-per-step", "4", "--precision", "float32", "--save-every", "5"]
    command = [sys.executable, "-m", "oneiros", *map(str, command)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not (tmp_path / "state.pt").exists() or load_state(tmp_path)["step"] < 5:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert load_state(tmp_path)["step"] < NUM_STEPS
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"step {NUM_STEPS}" in done.stdout
    assert_same_weights(tmp_path, world_run)


def test_two_processes_give_the_loss_curve_of_one(world_run, tokenizer_run, tmp_path):
    options = ["--codes", codes_folder(tokenizer_run), "--out", tmp_path, "--preset", "tiny", "--steps", NUM_STEPS]
    options += ["--tokens-per-step", "4", "--precision", "float32"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=localhost"]
    command = [*launcher, "--nproc-per-node=2", "-m", "oneiros", "train", "world", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path) == pytest.approx(losses(world_run), rel=1e-4)


def test_accumulation_changes_nothing(world_run, tokenizer_run, tmp_path):
    world.run(world_settings(tmp_path, codes=codes_folder(tokenizer_run), accumulate=4))
    assert losses(tmp_path) == pytest.approx(losses(world_run), rel=1e-4)


def test_stride_and_context_reach_the_model_and_the_clips(recording, tokenizer_run, tmp_path):
    settings = world_settings(
        tmp_path, data=recording, tokenizer=tokenizer_run, frame_stride=3, context=4, steps=1, tokens_per_step=None
    )
    world.run(settings)
    config = load(tmp_path).config
    assert (config.frame_stride, config.window, config.tokens_per_step) == (3, 4, 16)
    assert config.fps == pytest.approx(10 / 3)
    # ten frames at stride 3 are all that an episode of 30 rows holds: the dream is shortened to them
    assert "held_out/psnr_1" in read_metrics(tmp_path / "metrics.jsonl")[-1]


def test_episodes_shorter_than_a_clip(recording, tokenizer_run, tmp_path):
    with pytest.raises(ValueError, match=f"the longest of 5 episodes has {LENGTH}"):
        world.run(world_settings(tmp_path, data=recording, tokenizer=tokenizer_run, frame_stride=10))


@pytest.mark.parametrize("kind", ["keys", "continuous", None])
def test_other_kinds_of_actions(tokenizer_run, tmp_path, kind):
    specs = {"keys": ActionSpec("keys", ("left", "right")), "continuous": ActionSpec("continuous", ("x", "y"))}
    data = record(tmp_path / "data", spec=specs.get(kind), num_episodes=2)
    run = tmp_path / "run"
    world.run(
        world_settings(run, data=data, tokenizer=tokenizer_run, frame_stride=2, steps=2, cache=tmp_path / "cache")
    )
    found = load(run).config.action_spec
    assert found is None if kind is None else found.names == specs[kind].names
    assert ("actions" in load_file(run / "starts.safetensors")) == (kind is not None)


def test_more_keys_than_the_head_can_say_are_refused_before_the_training():
    held = np.zeros((6, 4), bool)
    held[3, 0] = held[4, 1] = True  # one key a row, but two in a step of two rows
    recorded: Any = SimpleNamespace(train=[SimpleNamespace(index=7, actions=held)])
    world._check_keys(make_world("keys", max_keys=2, frame_stride=2), recorded)
    world._check_keys(make_world("keys", max_keys=1), recorded)
    with pytest.raises(ValueError, match="2 keys are held after frame 3 of episode 7"):
        world._check_keys(make_world("keys", max_keys=1, frame_stride=2), recorded)


def test_depth_goes_through_to_pictures_and_starts(tmp_path):
    data = record(tmp_path / "data", depth=True, num_episodes=2)
    tokenizer.run(tokenizer_settings(data, tmp_path / "tokenizer", steps=2, depth=True))
    world.run(world_settings(tmp_path / "run", data=data, tokenizer=tmp_path / "tokenizer", steps=1))
    starts = load_file(tmp_path / "run" / "starts.safetensors")["frames"]
    (stored,) = load_frames(Dataset.open(data), [1], height=SIZE, width=SIZE, depth=True)
    assert np.array_equal(starts[0].numpy(), stored.content[:8])
    clip = Clips([stored], None, length=8).batch([0])
    assert clip.frames.shape[2] == 4
    assert Image.open(tmp_path / "run" / "pictures" / "step_000001.png").height >= 3 * 4 * 96


def test_joint_training_moves_the_tokenizer_too(recording, tokenizer_run, tmp_path):
    world.run(world_settings(tmp_path, data=recording, tokenizer=tokenizer_run, steps=2, joint=True))
    moved, before = load(tmp_path).tokenizer, load(tokenizer_run)
    name = "codec.encoder.0.weight"
    assert not torch.equal(moved.get_parameter(name), before.get_parameter(name))
    row = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert "tokenizer/reconstruction" in row


def test_warm_start_begins_with_the_other_world(world_run, recording, tokenizer_run, tmp_path, capsys):
    keys = record(tmp_path / "data", spec=ActionSpec("keys", ("left", "right")), num_episodes=2)
    settings = world_settings(tmp_path / "run", data=keys, warm_start=world_run, steps=1, lr=1e-9, preset="small")
    world.run(settings)
    theirs, ours = load(world_run), load(tmp_path / "run")
    assert ours.config.dim == theirs.config.dim
    for name, parameter in theirs.dynamics.named_parameters():
        torch.testing.assert_close(ours.dynamics.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)
    told = capsys.readouterr().err
    assert "fresh ones in action_embedding, action_head" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a world needs a tokenizer"),
        ({"tokenizer": "tokenizer_run"}, "either from datasets or"),
        ({"data": "recording", "tokenizer": "recording"}, r"is no run folder: it has no config\.json"),
        ({"data": "tokenizer_run", "tokenizer": "tokenizer_run"}, "no .*dataset"),
        ({"data": "recording", "warm_start": "tokenizer_run"}, "holds a tokenizer; this needs a world"),
    ],
)
def test_wrong_settings_are_one_clear_line(options, message, recording, tokenizer_run, tmp_path):
    folders = {"recording": recording, "tokenizer_run": tokenizer_run}
    with pytest.raises(ValueError, match=message):
        world.run(world_settings(tmp_path, **{name: folders[value] for name, value in options.items()}))
    assert not (tmp_path / "state.pt").exists()


def test_config_is_plain_json(world_run):
    recipe = json.loads((world_run / "config.json").read_text())["recipe"]
    assert recipe["frame_stride"] == 1
    assert "resume" not in recipe


def test_recent_episodes_can_be_preferred():
    """Half of the clips come from the recent ones, by their seeds alone; without recent ones all stay."""
    indices, seeds = list(range(1000)), torch.arange(1000)
    chosen = world._preferring(range(900, 1000), 0.5, indices, seeds)
    assert 500 < sum(index >= 900 for index in chosen) < 600
    assert chosen == world._preferring(range(900, 1000), 0.5, indices, seeds)
    assert world._preferring(range(1000, 1000), 0.5, indices, seeds) == indices
    assert world._preferring(range(900, 1000), 0.0, indices, seeds) == indices
