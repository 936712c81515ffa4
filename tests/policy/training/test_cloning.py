"""Demonstrations in, behaviour cloning in a run folder out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.frames import to_model
from oneiros.loading import load
from oneiros.policy.cloning import Cloning
from oneiros.policy.settings import CloningSettings
from oneiros.policy.training import cloning
from oneiros.records import Observation
from oneiros.run_folder import read_config, read_origin
from oneiros.train.log import read_metrics
from tests.recorded import SIZE, XY, record
from tests.world.training.test_tokenizer import run_until_ctrl_c
from tests.world.training.test_world import assert_same_weights, losses


def cloning_settings(data: Path, out: Path, **options) -> CloningSettings:
    defaults = {"preset": "tiny", "steps": 8, "batch_size": 4, "precision": "float32", "frame_stride": 2}
    return CloningSettings(data=data, out=out, **{"height": SIZE, "width": SIZE, **defaults, **options})


@pytest.fixture(scope="module")
def cloning_run(demonstrations, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "cloning"
    cloning.run(cloning_settings(demonstrations, out))
    return out


def test_a_run_holds_what_acts_alone(cloning_run):
    model, origin = load(cloning_run), read_origin(cloning_run)
    assert isinstance(model, Cloning)
    assert model.config.tasks == ("left", "right")
    assert read_config(cloning_run).kind == "cloning"
    assert origin.camera.height == SIZE
    assert read_metrics(cloning_run / "metrics.jsonl")[-1]["sampled/action_error"] > 0
    seen = Observation(torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, 2), ("left", "right"))
    _, action = model.act(model.init(2), seen)
    assert action.shape == (2, 2)


def test_training_sees_the_frames_and_states_of_its_moments(demonstrations, tmp_path):
    recipe = cloning.prepare(cloning_settings(demonstrations, tmp_path))
    batch, dataset = recipe.make_batch([0, 1, 5, 29], torch.arange(4)), Dataset.open(demonstrations)
    frames, states = to_model(dataset.frames(0)), dataset.states(0)
    for sample, rows in enumerate(([0, 0], [0, 1], [3, 5])):
        assert torch.equal(batch.frames[sample], frames[rows])
        assert np.array_equal(batch.state[sample], states[rows[1]])
    assert torch.equal(batch.frames[3], to_model(dataset.frames(1))[[0, 0]])  # 29 moments an episode
    assert batch.goal.tolist() == [0, 0, 0, 1]


def test_ctrl_c_then_resume_is_the_run_that_never_stopped(cloning_run, demonstrations, tmp_path):
    run_until_ctrl_c(cloning.run, cloning_settings(demonstrations, tmp_path), 3)
    cloning.run(CloningSettings(data=demonstrations, out=tmp_path, resume=True))
    assert_same_weights(tmp_path, cloning_run)


def test_changed_data_go_on_only_with_the_tasks_and_states_that_were_learned(cloning_run, demonstrations, tmp_path):
    cloning.run(cloning_settings(demonstrations, tmp_path / "run", steps=1))
    again = {"steps": 2, "resume": True, "data_changed": True}
    for name, tasks, states, message in (
        ("tasks", ("left", "up"), True, "has the tasks left, up; .* learned left, right"),
        ("states", ("left", "right"), False, "has states of 0 numbers; .* learned from 2"),
    ):
        other = record(tmp_path / name, spec=XY, depth=True, labels=True, states=states, num_episodes=2, tasks=tasks)
        with pytest.raises(ValueError, match=message):
            cloning.run(cloning_settings(other, tmp_path / "run", **again))
    more = record(tmp_path / "more", spec=XY, states=True, num_episodes=3, tasks=("left", "right"))
    assert cloning.run(cloning_settings(more, tmp_path / "run", **again)).step == 2


def test_augmented_frames_are_others(cloning_run, demonstrations, tmp_path):
    cloning.run(cloning_settings(demonstrations, tmp_path, augment=True))
    assert losses(tmp_path) != losses(cloning_run)


def test_depth_is_a_fourth_channel(demonstrations, tmp_path):
    cloning.run(cloning_settings(demonstrations, tmp_path, steps=1, depth=True))
    assert load(tmp_path).config.channels == 4
    assert read_origin(tmp_path).depth_camera.kind == "depth"


@pytest.mark.parametrize(
    ("recorded", "options", "message"),
    [
        ({"spec": None}, {}, "has no actions to learn from"),
        ({}, {"depth": True}, "has no depth camera"),
        ({}, {"camera": "observation.images.back"}, "has no rgb camera observation.images.back"),
        ({}, {"height": 0}, "height is 0"),
        ({}, {"frame_stride": 0}, "frame_stride is 0"),
        ({}, {"execute": 20}, "execute is 20; a chunk has only action_horizon, 10"),
    ],
)
def test_bad_input_is_one_clear_line(recorded, options, message, tmp_path):
    data = record(tmp_path / "data", num_episodes=2, **recorded)
    with pytest.raises(ValueError, match=message) as raised:
        cloning.run(cloning_settings(data, tmp_path / "run", **options))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run" / "state.pt").exists()
