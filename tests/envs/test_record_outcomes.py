"""What steps pay and how episodes end, from the environment through the recording to the clips of a training."""

import numpy as np
import pytest
import torch

from oneiros.data.episodes.clips import Clips, load_frames
from oneiros.data.episodes.dataset import Dataset
from oneiros.data.episodes.writer import DatasetWriter
from oneiros.envs.explore import StickyRandom
from oneiros.envs.record import record_episode
from tests.envs.stairs import CAMERA, SIDE, Stairs, mistaken, places

EPISODES, MAX_STEPS = 8, 25


def record(path, *, shows_the_end: bool, outcomes: bool = True) -> Dataset:
    env = Stairs(shows_the_end=shows_the_end)
    with DatasetWriter.of(env, path, outcomes=outcomes) as writer:
        for _ in range(EPISODES):
            record_episode(env, writer, StickyRandom, seed=0, max_steps=MAX_STEPS, task="climb")
    return Dataset.open(path)


@pytest.fixture(scope="module", params=[True, False], ids=["the end is shown", "no picture of the end"])
def climbed(request, tmp_path_factory) -> tuple[Dataset, bool]:
    return record(tmp_path_factory.mktemp("stairs"), shows_the_end=request.param), request.param


def write(path, *rows) -> Dataset:
    """An episode of these rows of outcomes, by hand."""
    image = {CAMERA.name: np.zeros((SIDE, SIDE, 3), np.uint8)}
    with DatasetWriter.of(Stairs(), path, outcomes=True) as writer, writer.episode(task="climb") as episode:
        for row in rows:
            episode.add(images=image, action=1, **row)
    return Dataset.open(path)


def clips(dataset: Dataset, *, length: int = 4, stride: int = 1) -> Clips:
    episodes = load_frames(dataset, [each.index for each in dataset.episodes], height=SIDE, width=SIDE)
    return Clips(episodes, dataset.action_spec, length=length, stride=stride, to_the_end=True)


def test_rewards_and_ends_belong_to_the_frame_and_the_action_of_their_row(climbed):
    """Shifted by one step, either way, most would not: the silent mistake that costs most."""
    dataset, _ = climbed
    every = clips(dataset)
    batch = every.batch(range(len(every)))
    assert mistaken(batch) == 0
    steps = int(batch.outcomes.valid.sum())
    assert min(mistaken(batch, shift) for shift in (-1, 1)) > 0.5 * steps


def test_the_last_step_of_every_episode_is_there_and_met_as_often_as_others(climbed):
    dataset, _ = climbed
    every, met = clips(dataset), {}
    for number in range(len(every)):
        episode, row = every.where(number)
        outcomes = every.batch([number]).outcomes
        for step in range(3):
            if outcomes.valid[0, step]:
                key = (episode, row + step)
                met[key] = met.get(key, 0) + 1
    for episode in dataset.episodes:
        outcomes = dataset.outcomes(episode.index)
        over = (outcomes.terminated | outcomes.truncated).nonzero()[0].item()
        assert met[episode.index, over] == min(3, over + 1)
        assert (episode.index, over + 1) not in met


def test_episodes_end_as_they_did(climbed):
    dataset, shown = climbed
    kinds = set()
    for episode in dataset.episodes:
        outcomes = dataset.outcomes(episode.index)
        last = int(outcomes.valid.sum()) - 1
        assert last == episode.length - (2 if shown or last == MAX_STEPS - 1 else 1)
        assert not (outcomes.terminated | outcomes.truncated)[:last].any()
        assert bool(outcomes.terminated[last]) != bool(outcomes.truncated[last])
        kinds.add(("ended" if outcomes.terminated[last] else "cut", last == MAX_STEPS - 1))
    assert kinds >= {("ended", False), ("cut", False)}


def test_an_episode_of_the_most_steps_is_cut_off_not_ended(tmp_path):
    env = Stairs()
    with DatasetWriter.of(env, tmp_path, outcomes=True) as writer:
        for seed in range(8):
            record_episode(env, writer, StickyRandom, seed=seed, max_steps=2, task="climb")
    dataset = Dataset.open(tmp_path)
    long = [dataset.outcomes(each.index) for each in dataset.episodes if each.length == 3]
    assert any(bool(each.truncated[1]) and not each.terminated.any() for each in long)


@pytest.mark.parametrize("stride", [2, 3])
def test_steps_of_several_rows_pay_their_sum_and_end_where_one_does(climbed, stride):
    dataset, _ = climbed
    every = clips(dataset, length=3, stride=stride)
    ended = 0
    for number in range(len(every)):
        episode, row = every.where(number)
        outcomes, rows = every.batch([number]).outcomes, dataset.outcomes(episode)
        for step in range(2):
            span = slice(row + step * stride, row + (step + 1) * stride)
            over = rows.terminated[span] & rows.valid[span]
            cut = rows.truncated[span] & rows.valid[span]
            whole = rows.valid[span].sum() == stride or bool((over | cut).any())
            assert bool(outcomes.valid[0, step]) == (whole and len(rows.valid[span]) > 0)
            if whole:
                assert outcomes.reward[0, step] == (rows.reward[span] * rows.valid[span]).sum()
                assert bool(outcomes.terminated[0, step]) == bool(over.any())
                ended += bool(over.any())
    assert ended


def test_the_action_that_ended_it_is_there_though_no_frame_follows(tmp_path):
    dataset = record(tmp_path, shows_the_end=False)
    every = clips(dataset, length=2)
    batch = every.batch(range(len(every)))
    fatal = batch.outcomes.terminated[:, 0]
    assert fatal.any()
    assert not batch.valid[fatal, 1].any()
    assert (batch.actions[fatal, 0] == 1).all()
    assert (places(batch)[fatal.numpy(), 0] == 7).all()


def test_a_dataset_begun_without_outcomes_goes_on_without(tmp_path):
    record(tmp_path, shows_the_end=True, outcomes=False)
    again = record(tmp_path, shows_the_end=True)
    assert len(again.episodes) == 2 * EPISODES
    assert again.outcomes(0) is None
    assert not again.pays
    batch = clips(again).batch([0, 1])
    assert batch.outcomes is None
    assert batch.valid.all()


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), 1e39])
def test_a_reward_that_is_no_number_is_named_and_nothing_else_is_lost(tmp_path, reward):
    write(tmp_path, {"reward": 1.0})
    with pytest.raises(ValueError, match=r"episode 1, row 1: reward is .*; it must be a finite number"):
        write(tmp_path, {"reward": 1.0}, {"reward": reward})
    assert len(Dataset.open(tmp_path).episodes) == 1


def test_nothing_but_a_last_picture_follows_the_step_that_ended_it(tmp_path):
    with pytest.raises(ValueError, match="row 0: ended the episode; only a last picture can follow"):
        write(tmp_path, {"reward": 1.0, "terminated": True}, {"reward": 1.0})


def test_an_end_that_is_also_cut_off_counts_as_an_end(tmp_path):
    outcomes = write(tmp_path, {"reward": 2.5}, {"reward": -1.0, "terminated": True, "truncated": True}).outcomes(0)
    assert outcomes.reward.tolist() == [2.5, -1.0]
    assert outcomes.terminated.tolist() == [False, True]
    assert not outcomes.truncated.any()
    assert torch.equal(outcomes.valid, torch.tensor([True, True]))
