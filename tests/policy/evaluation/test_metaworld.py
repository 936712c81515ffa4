"""The evaluation of policies in Meta-World itself: what is seen, who plays, from which starts."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("metaworld")

from oneiros.data.episodes.clips import Clips, load_frames
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.data.frames import codes_to_model, to_model
from oneiros.envs.make import make_env
from oneiros.policy.cloning import Cloning, CloningConfig
from oneiros.policy.evaluation.config import PolicyEvalConfig
from oneiros.policy.evaluation.contenders import observation_spec_of
from oneiros.policy.evaluation.observing import ObservationSpec, frame_of
from oneiros.policy.evaluation.run import EPISODES, evaluate_policy
from oneiros.run_folder import Origin
from oneiros.world.tokenizer import Tokenizer, TokenizerConfig

SIZE, TASK, FRAMES = 32, "drawer-open-v3", 8


@pytest.fixture(scope="module")
def env():
    env = make_env(f"metaworld:{TASK}", height=SIZE, width=SIZE, depth=True)
    yield env
    env.close()


@pytest.fixture(scope="module")
def recorded(env, tmp_path_factory):
    """Observations of the expert's first steps, and the dataset they were written to."""
    path, seen = tmp_path_factory.mktemp("recorded") / "data", []
    with DatasetWriter(path, fps=env.fps, cameras=env.cameras, action_spec=env.action_spec) as writer:
        for start in (0, 1):
            observation, _ = env.reset(options={"task": TASK, "start": start})
            with writer.episode(task=env.task) as episode:
                for _ in range(FRAMES):
                    action = env.expert_action()
                    if start == 0:
                        seen.append(observation)
                    episode.add(images={camera.name: observation[camera.name] for camera in env.cameras}, action=action)
                    for _ in range(5):  # otherwise hardly anything moves
                        observation = env.step(action)[0]
    return seen, Dataset.open(path)


def test_live_frames_have_nearly_the_codes_of_recorded_ones(env, recorded):
    seen, dataset = recorded
    loaded = load_frames(dataset, [0], height=SIZE, width=SIZE, depth=True)
    clip = Clips(loaded, dataset.action_spec, length=FRAMES).batch([0])
    told = ObservationSpec(
        height=SIZE,
        width=SIZE,
        channels=4,
        rendered=(SIZE, SIZE),
        fps=env.fps,
        action_spec=env.action_spec,
        depth_camera=dataset.camera(kind="depth"),
    )
    live = torch.stack([frame_of(each, env, told)[0] for each in seen])
    assert torch.equal(live[:, 3], clip.frames[0, :, 3])
    raw = torch.cat([torch.stack([to_model(each[env.cameras[0].name].copy()) for each in seen]), live[:, 3:]], 1)
    error, raw_error = ((frames - clip.frames[0])[:, :3].square().mean() for frames in (live, raw))
    assert error < 0.5 * raw_error  # chroma of half the resolution is most of what a recording loses
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        TokenizerConfig(height=SIZE, width=SIZE, channels=4, codebook_size=16, code_dim=8, codec_width=8, codec_depth=1)
    ).eval()
    tokenizer.codebook.copy_(spread_codebook(tokenizer, clip.frames))
    codes, wanted = tokenizer.encode(live[None]), tokenizer.encode(clip.frames)
    assert len(wanted.unique()) > 10
    assert (codes == wanted).float().mean() > 0.8


@torch.no_grad()
def spread_codebook(tokenizer: Tokenizer, frames: torch.Tensor) -> torch.Tensor:
    """Codes as dense as trained ones: latents of the frames themselves, drawn by lot."""
    latents = tokenizer.codec.encode(frames).movedim(2, -1).flatten(0, -2)
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(0))
    return latents[order[: len(tokenizer.codebook)]]


@pytest.fixture(scope="module")
def cloning(env, tmp_path_factory):
    torch.manual_seed(0)
    config = CloningConfig(
        action_spec=env.action_spec,
        tasks=("drawer open", "drawer close"),
        state_mean=(0.0,) * 4,
        state_std=(1.0,) * 4,
        height=16,
        width=16,
        channels=4,
        image_width=8,
        dim=16,
        depth=1,
    )
    run = tmp_path_factory.mktemp("cloning") / "run"
    rgb, depth = env.cameras
    Cloning(config).save(run, data=Origin(fps=80, camera=rgb, depth_camera=depth))
    return run


def test_a_run_tells_how_its_recording_was_seen(cloning, env):
    from oneiros.loading import load

    seen = observation_spec_of(cloning, load(cloning))
    assert (seen.rendered, seen.height, seen.channels, seen.fps, seen.state_size) == ((SIZE, SIZE), 16, 4, 80.0, 4)
    assert seen.depth_camera == env.cameras[1]
    assert seen.camera == "observation.images.corner4"


def test_expert_random_and_run_play_the_fixed_starts(cloning, tmp_path):
    config = PolicyEvalConfig(episodes=2, max_steps=120, batch_size=2, workers=1, videos=0, decisions=0)
    name = "metaworld:drawer-close-v3,drawer-open-v3"
    measured = evaluate_policy(cloning, name, out=tmp_path, config=config)
    assert measured["tasks"] == ["drawer-close-v3", "drawer-open-v3"]
    by_kind = {each["kind"]: each for each in measured["contenders"]}
    assert by_kind["expert"]["mean"]["rate"] == 1
    assert by_kind["expert"]["mean"]["steps"] < 120
    assert by_kind["random"]["tasks"]["drawer-open-v3"]["rate"] == 0
    assert by_kind["cloning"]["groups"].keys() == {"easy"}
    rows = [json.loads(line) for line in (tmp_path / EPISODES).read_text().splitlines()]
    starts = {(row["contender"], row["task"], row["start"]) for row in rows}
    assert len(starts) == len(rows) == 3 * 2 * 2
    again = evaluate_policy(cloning, "metaworld:drawer-open-v3", out=tmp_path, config=config)  # nothing is left to do
    assert len((tmp_path / EPISODES).read_text().splitlines()) == len(rows)
    assert again["contenders"][0]["tasks"].keys() == {"drawer-open-v3"}


def test_resized_depth_is_taken_at_pixel_centres(cloning, env, recorded):
    """As training takes it: averaging across an edge would invent a surface."""
    from oneiros.data.depth import depth_to_codes
    from oneiros.data.frames import resize_nearest
    from oneiros.loading import load

    seen = observation_spec_of(cloning, load(cloning))
    frame, _ = frame_of(recorded[0][0], env, seen)
    codes = depth_to_codes(recorded[0][0][env.cameras[1].name], env.cameras[1])
    assert torch.equal(frame[3], codes_to_model(resize_nearest(codes[None], 16, 16)[0]))
    assert np.isin(frame[3].numpy(), codes_to_model(codes).numpy()).all()
