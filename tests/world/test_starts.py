"""Where dreams begin, and that what does not fit a world is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_uint8
from oneiros.world.dream import Dream
from oneiros.world.recorded import held_out_episodes, load_clips
from oneiros.world.starts import find_starts, load_world
from tests.dot_runs import save_world, write_dataset
from tests.dot_world import SPECS, real_episode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts")
    write_dataset(folder / "data")
    save_world(folder / "run", folder / "data")
    return folder


def test_the_runs_own_held_out_episodes_count_on_its_own_dataset(folder, tmp_path):
    assert held_out_episodes(folder / "run", Dataset.open(folder / "data")) == (7, 9)
    other = Dataset.open(write_dataset(tmp_path / "other", episodes=4, length=12))
    assert held_out_episodes(folder / "run", other) == (3,)


def test_starts_from_a_dataset_are_its_held_out_frames_and_actions(folder):
    world = load_world(folder / "run")
    starts = find_starts(world, folder / "run", data=folder / "data")
    assert len(starts) == 16
    truth, actions = real_episode(30, SPECS["keys"], seed=7)
    first = to_uint8(starts[0].frames[0])
    assert (first.int() - truth[:8].int()).abs().float().mean() < 8  # the video is compressed
    assert torch.equal(starts[0].actions[0], actions[:7])


def test_strides_and_strange_speeds(folder, tmp_path):
    world = load_world(save_world(tmp_path / "run", stride=3))
    dataset = Dataset.open(folder / "data")
    clip = load_clips(world, tmp_path / "run", dataset, [7], length=4).batch([0])
    actions = real_episode(30, SPECS["keys"], seed=7)[1]
    assert torch.equal(clip.actions[0, 0], actions[:3].any(0))
    slow = load_world(folder / "run")
    object.__setattr__(slow.config, "fps", 5.0)
    with pytest.raises(ValueError, match="runs at 10 steps a second; this world learned from 5"):
        load_clips(slow, folder / "run", dataset, [7], length=4)


def test_a_picture_is_cropped_to_the_middle(folder, tmp_path):
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 50:150] = (255, 0, 0)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    world = load_world(folder / "run")
    (start,) = find_starts(world, folder / "run", image=tmp_path / "photo.png")
    assert start.frames.shape == (1, 1, 3, 16, 16)
    assert (to_uint8(start.frames) == torch.tensor([255, 0, 0], dtype=torch.uint8)).all()
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text.png cannot be read as a picture"):
        find_starts(world, folder / "run", image=tmp_path / "text.png")


def test_a_picture_is_no_program(folder, tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    (tmp_path / "photo.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\n: > {tmp_path / 'ran'}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ValueError, match=r"photo.png cannot be read as a picture"):
        find_starts(load_world(folder / "run"), folder / "run", image=tmp_path / "photo.png")
    assert not (tmp_path / "ran").exists()


def test_starts_in_the_run_folder(folder):
    world, run = load_world(folder / "run"), folder / "run"
    with pytest.raises(ValueError, match=r"holds no starts.safetensors to begin from; name a dataset"):
        find_starts(world, run)
    frames, actions = real_episode(5, SPECS["keys"], seed=3)
    save_file({"frames": frames[None], "actions": actions[None, :4]}, run / "starts.safetensors")
    (start,) = find_starts(world, run)
    assert torch.equal(to_uint8(start.frames[0]), frames)
    assert torch.equal(start.actions[0], actions[:4])
    (run / "starts.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="is damaged"):
        find_starts(world, run)


def test_a_dream_from_a_run_can_be_stepped(folder):
    env = Dream.from_run(folder / "run", data=folder / "data", max_steps=2)
    first, _ = env.reset(seed=0)
    second, *_, info = env.step(np.array([1, 0, 0, 0]))
    assert first.shape == second.shape == (16, 16, 3)
    assert env.fps == 10
    assert info == {}


def test_what_is_no_world_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        load_world(tmp_path)
    with pytest.raises(ValueError, match="holds a tokenizer; this needs a world"):
        load_world(folder / "run" / "tokenizer")
    other = write_dataset(tmp_path / "other", "continuous", episodes=2, length=12)
    with pytest.raises(ValueError, match=r"has continuous actions .*this world knows keys actions"):
        find_starts(load_world(folder / "run"), folder / "run", data=other)
    with pytest.raises(ValueError, match="from data or from an image"):
        find_starts(load_world(folder / "run"), folder / "run", data=other, image="x.png")
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["kind"] == "world"


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": torch.zeros(2, 5, 8, 16, 3, dtype=torch.uint8)},
        {"frames": torch.zeros(2, 5, 16, 16, 3)},
        {"frames": torch.zeros(2, dtype=torch.uint8)},
        {"pictures": torch.zeros(2, 5, 16, 16, 3, dtype=torch.uint8)},
        {"frames": torch.zeros(2, 5, 16, 16, 3, dtype=torch.uint8), "actions": torch.zeros(2, 4, 3, dtype=torch.bool)},
        {"frames": torch.zeros(2, 5, 16, 16, 3, dtype=torch.uint8), "actions": torch.zeros(1, 4, 4, dtype=torch.bool)},
    ],
    ids=lambda tensors: str({name: tuple(tensor.shape) for name, tensor in tensors.items()}),
)
def test_starts_that_fit_no_dream_are_one_line(folder, tmp_path, wrong):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    save_file(wrong, run / "starts.safetensors")
    with pytest.raises(ValueError, match=r"starts\.safetensors is damaged: |^actions ") as refused:
        find_starts(load_world(run), run)
    assert "\n" not in str(refused.value)
