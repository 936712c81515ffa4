"""Demonstrations and a world in, a policy in a run folder out."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from oneiros.loading import load
from oneiros.policy.model import Policy
from oneiros.policy.training import imagination as predictive
from oneiros.policy.training import policy
from oneiros.records import ActionSpec, Observation
from oneiros.run_folder import read_config, read_origin
from oneiros.train.log import read_metrics
from oneiros.train.state import load_state
from oneiros.world import encoding
from tests.recorded import SIZE, XY, policy_settings, record
from tests.world.training.test_tokenizer import run_until_ctrl_c
from tests.world.training.test_world import assert_same_weights, losses


def test_a_run_holds_a_policy_with_its_world(policy_run, acting_world, demonstrations):
    model, origin = load(policy_run), read_origin(policy_run)
    assert isinstance(model, Policy)
    assert model.config.tasks == ("left", "right")
    assert model.config.state_mean[1] == pytest.approx(7)  # a state that never changes
    assert model.config.state_std[1] == 1
    assert len(model.config.feature_mean) == model.world.config.dim
    assert read_config(policy_run).kind == "policy"
    assert origin.path == str(demonstrations)
    assert origin.camera.height == SIZE
    assert origin.depth_camera.fx == 32
    theirs, ours = (load_file(run / "model.safetensors") for run in (acting_world, policy_run / "world"))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)  # training leaves the world as it was
    assert (policy_run / "pictures" / "step_000012.png").is_file()
    assert read_metrics(policy_run / "metrics.jsonl")[-1]["sampled/action_error"] > 0


def test_the_learning_rate_changes_and_averaged_weights_are_saved(demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=25))
    rates = [row["learning_rate"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(set(rates)) == len(rates) == 3
    state, saved = load_state(tmp_path), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(saved[name], state["ema"][name]) for name in state["ema"])
    assert any(not torch.equal(saved[name], state["model"][name]) for name in state["ema"])


def test_a_policy_acts_without_its_dataset(policy_run, tmp_path):
    model = load(shutil.copytree(policy_run, tmp_path / "moved"))
    assert isinstance(model, Policy)
    seen = Observation(torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, 2), ("left", "right"))
    _, action = model.act(model.init(2), seen)
    assert action.shape == (2, 2)


def test_it_learns(demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=120, former="none"))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["policy/denoising"] < 0.8 * rows[0]["policy/denoising"]


def test_codes_and_features_of_earlier_runs_are_used(policy_run, demonstrations, acting_world, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "encode_shard", lambda *_: pytest.fail("encoded again"))
    monkeypatch.setattr(predictive, "_write", lambda *_: pytest.fail("imagined again"))
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=1))


def test_ctrl_c_then_resume_is_the_run_that_never_stopped(policy_run, demonstrations, acting_world, tmp_path):
    run_until_ctrl_c(policy.run, policy_settings(demonstrations, acting_world, tmp_path), 6)
    policy.run(policy.PolicySettings(data=demonstrations, out=tmp_path, resume=True))
    assert_same_weights(tmp_path, policy_run)
    assert losses(tmp_path) == losses(policy_run)


def test_resume_needs_no_world_folder(demonstrations, acting_world, tmp_path):
    moved = shutil.copytree(acting_world, tmp_path / "world", ignore=shutil.ignore_patterns("cache"))
    settings = policy_settings(demonstrations, moved, tmp_path / "run", every=8)
    run_until_ctrl_c(policy.run, settings, 2)
    shutil.rmtree(moved)
    assert policy.run(policy.PolicySettings(data=demonstrations, out=tmp_path / "run", resume=True)).step == 12


def test_accumulation_changes_nothing(policy_run, demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, accumulate=4))
    assert losses(tmp_path) == pytest.approx(losses(policy_run), rel=1e-4)


@pytest.mark.parametrize("former", ["none", "2d"])
def test_other_formers(former, demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=1, former=former))
    assert load(tmp_path).config.former == former


def test_frames_can_be_hidden_in_training(demonstrations, acting_world, tmp_path):
    policy.run(policy_settings(demonstrations, acting_world, tmp_path, steps=1, frame_mask=0.3))
    assert load(tmp_path).config.frame_mask == 0.3


def test_choices_instead_of_numbers_and_no_state(recording, world_run, tmp_path):
    policy.run(policy_settings(recording, world_run, tmp_path, steps=1, every=8))
    model = load(tmp_path)
    assert model.config.action_spec.kind == "discrete"
    assert model.config.state_mean == ()
    _, action = model.act(model.init(1), Observation(torch.zeros(1, 3, SIZE, SIZE), task=("move",)))
    assert action.dtype == torch.int64


def test_warm_start_begins_with_the_other_policy(policy_run, demonstrations, acting_world, tmp_path):
    settings = policy_settings(demonstrations, acting_world, tmp_path, steps=1, lr=1e-9, warm_start=policy_run)
    policy.run(settings)
    ours, theirs = (dict(load(run).named_parameters()) for run in (tmp_path, policy_run))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": None}, "a policy needs a world"),
        ({"world": "tokenizer"}, "holds a tokenizer; this needs a world"),
        ({"camera": "observation.images.back"}, "has no camera observation.images.back, only observation.images.front"),
        ({"former": "2d", "alignment": True}, "--alignment is of --former geometry"),
        ({"every": 0}, "every is 0"),
        ({"layers": (9,)}, "layer is 9; this world's are 0 to 1"),
        ({"execute": 11}, "execute is 11; a chunk has only action_horizon, 10"),
        ({"geometry_tokens": -1}, "geometry_tokens is -1"),
        ({"former": "2d", "frame_mask": 0.5}, "frame_mask hides frames from a former over time"),
        ({"alignment": True, "teacher_steps": 0}, "teacher_steps is 0"),
    ],
)
def test_wrong_settings_are_one_clear_line(options, message, demonstrations, acting_world, tmp_path):
    if options.get("world") == "tokenizer":
        options = {"world": acting_world.parent / "tokenizer"}
    with pytest.raises(ValueError, match=message) as raised:
        policy.run(policy_settings(demonstrations, **{"world": acting_world, "out": tmp_path, **options}))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize(
    ("recorded", "options", "message"),
    [
        ({"spec": None}, {}, "has no actions; the world in .* knows continuous"),
        ({"spec": ActionSpec("continuous", ("x", "z"))}, {}, r"has continuous actions \(x, z\); the world in"),
        ({"spec": ActionSpec("keys", ("left", "right"))}, {}, "has keys actions"),
        ({"spec": XY}, {"geometry_tokens": 4}, "has no depth camera, which --geometry-tokens needs"),
        ({"spec": XY, "depth": True}, {"alignment": True}, "has no labels camera, which --alignment needs"),
    ],
)
def test_datasets_that_do_not_fit_are_one_clear_line(recorded, options, message, acting_world, tmp_path):
    data = record(tmp_path / "data", num_episodes=2, **recorded)
    with pytest.raises(ValueError, match=message):
        policy.run(policy_settings(data, acting_world, tmp_path / "run", cache=tmp_path / "cache", **options))


def test_a_world_of_other_cameras_sizes_or_rates_is_refused(demonstrations, acting_world, tmp_path):
    changes = {
        "camera": (("data", "camera", "observation.images.top"), "was trained on that camera"),
        "rate": (("model", "fps", 10.0), r"runs at 10 steps a second; .* learned from 20"),
    }
    for name, ((part, field, value), message) in changes.items():
        run = shutil.copytree(acting_world, tmp_path / name, ignore=shutil.ignore_patterns("cache"))
        told = json.loads((run / "config.json").read_text())
        told[part][field] = value
        (run / "config.json").write_text(json.dumps(told))
        with pytest.raises(ValueError, match=message):
            policy.run(policy_settings(demonstrations, run, tmp_path / f"{name}-run"))
