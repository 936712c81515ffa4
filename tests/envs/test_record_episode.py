import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.make import make_env
from oneiros.envs.record import Tally, record_episode
from tests.envs import echo_env


def record(env, path, episodes, *, seed=0, max_steps=50):
    with DatasetWriter.of(env, path) as writer:
        tallies = [
            record_episode(env, writer, StickyRandom, seed=seed, max_steps=max_steps, task="t") for _ in range(episodes)
        ]
    return sum(tallies, Tally())


def shown(frames):
    """The brightness of each stripe of an echo, 0 to 1."""
    width = frames.shape[2] // echo_env.STRIPES
    return frames[:, 8:-8, width // 2 :: width].mean((1, 3)) / 255


@pytest.mark.parametrize("name", ["EchoDiscrete-v0", "EchoKeys-v0", "EchoBox-v0"])
def test_the_next_frame_shows_the_action_of_its_row(tmp_path, name):
    env = make_env(f"gym:{name}")
    tally = record(env, tmp_path, 2)
    dataset = Dataset.open(tmp_path)
    assert (tally.episodes, tally.frames) == (2, 2 * (echo_env.LENGTH + 1))
    assert tally.playing > 0 < tally.encoding
    for episode in range(2):
        stripes, actions = shown(dataset.frames(episode)), dataset.actions(episode)
        assert len(stripes) == len(actions) == echo_env.LENGTH + 1
        if env.action_spec.kind == "discrete":
            expected = np.arange(echo_env.STRIPES) == actions.reshape(-1, 1)
        elif env.action_spec.kind == "keys":
            expected = actions.astype(float)
        else:
            expected = (actions + 2) / 4
        np.testing.assert_allclose(stripes[0], 0, atol=0.05)
        np.testing.assert_allclose(stripes[1:], expected[:-1], atol=0.05)
        np.testing.assert_array_equal(dataset.states(episode)[:, 0], np.arange(len(stripes)))


def test_an_episode_ends_after_max_steps(tmp_path):
    record(make_env("gym:EchoKeys-v0"), tmp_path, 1, max_steps=4)
    assert [episode.length for episode in Dataset.open(tmp_path).episodes] == [5]


def test_appending_goes_on_where_recording_would_have(tmp_path):
    env = make_env("gym:EchoKeys-v0")
    record(env, tmp_path / "once", 4)
    record(env, tmp_path / "twice", 1)
    record(env, tmp_path / "twice", 3)
    once, twice = Dataset.open(tmp_path / "once"), Dataset.open(tmp_path / "twice")
    assert len(twice.episodes) == 4
    for episode in range(4):
        np.testing.assert_array_equal(once.actions(episode), twice.actions(episode))
        np.testing.assert_array_equal(once.states(episode), twice.states(episode))
        np.testing.assert_array_equal(once.frames(episode), twice.frames(episode))
    assert (once.actions(0) != once.actions(1)).any()


def test_depth_labels_and_pose_of_doom_come_back_from_disk(tmp_path):
    env = make_env("doom:health_gathering", depth=True, labels=True)
    record(env, tmp_path, 1, max_steps=20)
    dataset = Dataset.open(tmp_path)
    assert dataset.cameras == env.cameras
    assert dataset.action_spec == env.action_spec
    observation = env.reset(seed=int(np.random.SeedSequence([0, 0]).generate_state(1)[0]))[0]
    for row, action in enumerate(dataset.actions(0)):
        metres = observation["observation.depth.front"]
        np.testing.assert_allclose(dataset.depth(0)[row], metres, atol=0.02)
        np.testing.assert_array_equal(dataset.labels(0)[row], observation["observation.labels.front"])
        np.testing.assert_array_equal(dataset.states(0)[row], observation["observation.state"])
        error = dataset.frames(0)[row].astype(float) - observation["observation.images.front"]
        assert np.abs(error).mean() < 6
        observation = env.step(action)[0]
    env.close()
