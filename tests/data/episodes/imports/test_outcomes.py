"""Rewards and ends of what is imported stay with the actions that they came of."""

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.record import record_episode
from tests.data.conftest import Counting
from tests.data.episodes.imports.command import run
from tests.envs.stairs import Stairs


@pytest.mark.parametrize("shows_the_end", [True, False])
def test_a_dataset_written_anew_pays_and_ends_as_before(tmp_path, shows_the_end):
    env = Stairs(shows_the_end=shows_the_end)
    with DatasetWriter.of(env, tmp_path / "old", outcomes=True) as writer:
        for _ in range(6):
            record_episode(env, writer, StickyRandom, seed=0, max_steps=15, task="climb")
    assert run(tmp_path / "old", "--out", tmp_path / "new") == 0
    old, new = Dataset.open(tmp_path / "old"), Dataset.open(tmp_path / "new")
    kept = [episode for episode in old.episodes if episode.length > 1]  # a single frame is left out
    for episode, anew in zip(kept, new.episodes, strict=True):
        before, after = old.outcomes(episode.index), new.outcomes(anew.index)
        assert torch.equal(before.valid, after.valid)
        for name in ("reward", "terminated", "truncated"):
            assert torch.equal(getattr(before, name), getattr(after, name)), name


def robomimic(path, dones) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for number, done in enumerate(dones):
            demo, rows = file.create_group(f"data/demo_{number}"), len(done)
            demo["actions"] = np.zeros((rows, 2))
            demo["obs/agentview_image"] = np.stack([Counting.draw(row) for row in range(rows)])
            demo["rewards"] = np.arange(rows) / 2
            demo["dones"] = np.array(done)


def test_robomimic_keeps_rewards_and_the_end_that_nothing_follows(tmp_path):
    robomimic(tmp_path / "low.hdf5", [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0]])
    assert run(tmp_path / "low.hdf5", "--out", tmp_path / "data") == 0
    data = Dataset.open(tmp_path / "data")
    for episode in range(3):
        assert data.outcomes(episode).reward.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert data.outcomes(0).terminated.tolist() == data.outcomes(1).terminated.tolist() == [False, False, False, True]
    assert not data.outcomes(2).terminated.any()


def test_a_reward_that_is_no_number_leaves_its_episode_out(tmp_path, capsys):
    robomimic(tmp_path / "low.hdf5", [[0, 0, 1], [0, 0, 1]])
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "low.hdf5", "r+") as file:
        file["data/demo_1/rewards"][1] = np.nan
    assert run(tmp_path / "low.hdf5", "--out", tmp_path / "data") == 0
    assert len(Dataset.open(tmp_path / "data").episodes) == 1
    assert "row 1: reward is nan" in "".join(capsys.readouterr())
