from functools import partial

import numpy as np
import pytest

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import Expert
from oneiros.envs.record import ATTEMPTS, Tally, record_episode
from tests.envs.lucky_env import LENGTH, LuckyEnv


def record(env, path, episodes, *, keep="success", noise=0.0, seed=0, task=None, max_steps=50):
    with DatasetWriter.of(env, path) as writer:
        tallies = [
            record_episode(
                *(env, writer, partial(Expert, env, noise=noise)),
                seed=seed,
                max_steps=max_steps,
                task=task,
                keep=keep,
            )
            for _ in range(episodes)
        ]
    return sum(tallies, Tally())


def starts(path):
    dataset = Dataset.open(path, strict=True)
    return [float(dataset.states(episode.index)[0, 0]) for episode in dataset.episodes]


def test_only_successes_are_saved_and_failures_are_counted(tmp_path):
    env = LuckyEnv()
    tally = record(env, tmp_path, 8)
    assert (tally.episodes, tally.frames) == (8, 8 * (LENGTH + 1))
    assert tally.failures == len(env.asked) - 8 > 0
    assert tally.dropped == tally.failures * (LENGTH + 1)
    assert starts(tmp_path) == [float(np.float32(start)) for start, lucky in env.starts if lucky]


def test_a_success_counts_even_where_the_last_step_is_none(tmp_path):
    record(LuckyEnv(chance=1), tmp_path, 1)
    assert Dataset.open(tmp_path).episodes[0].length == LENGTH + 1


def test_all_episodes_are_saved_when_asked_for(tmp_path):
    env = LuckyEnv()
    tally = record(env, tmp_path, 8, keep="all")
    assert (tally.episodes, tally.failures, len(env.asked)) == (8, 0, 8)


def test_appending_successes_goes_on_where_recording_would_have(tmp_path):
    record(LuckyEnv(), tmp_path / "once", 6)
    record(LuckyEnv(), tmp_path / "twice", 2)
    record(LuckyEnv(), tmp_path / "twice", 4)
    assert starts(tmp_path / "once") == starts(tmp_path / "twice")
    assert len(set(starts(tmp_path / "once"))) == 6
    record(LuckyEnv(), tmp_path / "other", 6, seed=1)
    assert not set(starts(tmp_path / "other")) & set(starts(tmp_path / "once"))


def test_tasks_take_turns_by_the_place_in_the_dataset(tmp_path):
    for episodes in (1, 3):
        record(LuckyEnv(tasks=("one", "two")), tmp_path, episodes)
    assert [episode.task for episode in Dataset.open(tmp_path).episodes] == ["one", "two", "one", "two"]


def test_what_is_saved_of_a_noisy_expert_is_what_was_done(tmp_path):
    for noise in (0.0, 0.3):
        record(LuckyEnv(chance=1), tmp_path / str(noise), 3, noise=noise)
    exact, noisy = (Dataset.open(tmp_path / noise) for noise in ("0.0", "0.3"))
    for episode in range(3):
        wanted = exact.states(episode)[0, 0]
        np.testing.assert_array_equal(exact.actions(episode)[:-1, 0], wanted)
        done = noisy.actions(episode)[:-1, 0]
        assert (done != wanted).all()
        assert len(np.unique(done)) > 1
        assert ((done >= 0) & (done <= 1)).all()


def test_recording_gives_up_when_nothing_succeeds(tmp_path):
    env = LuckyEnv(chance=0)
    with pytest.raises(ValueError, match=f"{ATTEMPTS} attempts in a row reached no success within 3 steps"):
        record(env, tmp_path, 1, max_steps=3)
    assert len(env.asked) == ATTEMPTS
    assert record(LuckyEnv(chance=1), tmp_path, 1).failures == 0  # and what it left can be gone on with


def test_an_environment_without_success_says_so_at_once(tmp_path):
    env = LuckyEnv(speaks=False)
    with pytest.raises(ValueError, match="never speaks of success"):
        record(env, tmp_path, 1)
    assert len(env.asked) == 1
