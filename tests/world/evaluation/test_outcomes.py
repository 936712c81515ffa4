"""What is measured of rewards and ends: figures whose value is known, and whole episodes to their last step."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oneiros.data.episodes.arrays import EpisodeArrays
from oneiros.data.episodes.clips import frames_of
from oneiros.records import Outcomes
from oneiros.world.evaluation.config import DriftConfig, EvalConfig
from oneiros.world.evaluation.outcomes.measure import dream, measure_outcomes, watch
from oneiros.world.evaluation.outcomes.scores import (
    Told,
    best_threshold,
    correlation,
    end_scores,
    reliability,
    time_shift,
)
from oneiros.world.evaluation.run import evaluate_world
from tests.dot_runs import save_world, write_dataset
from tests.world.worlds import make_world

CONFIG = EvalConfig(clips=40, context=3, horizon=4, batch_size=8, drift=DriftConfig(frames=0), speed_steps=0)
HEADS = {"reward_values": (-1.0, 0.0, 4.0), "end_rate": 0.1}


def told(ends: list[float], came: list[int], valid: list[int] | None = None) -> Told:
    known = torch.tensor(valid or [1] * len(came)).bool()
    return Told(torch.zeros(len(ends)), torch.tensor(ends), None, torch.tensor(came).bool(), known)


@pytest.mark.parametrize("late", [-2, -1, 0, 1, 2])
def test_the_time_shift_says_by_how_many_steps_labels_lie_beside(late):
    """What is said of step t is what comes of step t + late."""
    generator = torch.Generator().manual_seed(0)
    came = [torch.rand(length, generator=generator) for length in (40, 25, 3)]
    said = [each.roll(-late) for each in came]
    shift = time_shift(said, came, [torch.ones(len(each), dtype=torch.bool) for each in came])
    assert shift["peak"] == late
    assert shift["shift"] == [-3, -2, -1, 0, 1, 2, 3]
    assert shift["correlation"][3 + late] > 0.9
    assert max(shift["correlation"][: 3 + late] + shift["correlation"][4 + late :]) < 0.5


def test_a_shift_never_reaches_into_another_sequence_nor_to_steps_that_are_not_known():
    said = [torch.tensor([0.0, 1.0]), torch.tensor([5.0, 7.0])]
    came = [torch.tensor([0.0, 1.0]), torch.tensor([5.0, 7.0])]
    shift = time_shift(said, came, [torch.tensor([True, False]), torch.tensor([True, True])])
    assert shift["correlation"] == [None, None, None, pytest.approx(1.0), None, None, None]
    nothing = time_shift([torch.ones(3)], [torch.ones(3)], [torch.ones(3, dtype=torch.bool)])
    assert nothing["peak"] is None


def test_an_end_said_a_step_beside_counts_and_two_steps_beside_does_not():
    near = end_scores([told([0.9, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0])], 0.5)
    assert (near["precision"], near["recall"], near["f1"]) == (1, 1, 1)
    far = end_scores([told([0.9, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0])], 0.5)
    assert (far["precision"], far["recall"], far["f1"]) == (0, 0, 0)
    mixed = [told([0.9, 0.1, 0.1, 0.6], [0, 0, 0, 1]), told([0.1, 0.1, 0.1, 0.1], [0, 0, 0, 1])]
    scores = end_scores(mixed, 0.5)
    assert (scores["precision"], scores["recall"], scores["ends"], scores["said"]) == (0.5, 0.5, 2, 2)
    unknown = end_scores([told([0.9, 0.1], [1, 0], valid=[0, 1])], 0.5)
    assert (unknown["precision"], unknown["recall"], unknown["f1"]) == (None, None, None)


def test_the_threshold_follows_from_the_probabilities_alone():
    """Ends that come by chance of 0.3 are best said whenever they may come; sure ones from a half on."""
    assert best_threshold(torch.tensor([0.3] * 10 + [0.001] * 500)) == pytest.approx(0.3)
    assert best_threshold(torch.tensor([0.99] * 10 + [0.4] * 2 + [0.001] * 500)) == pytest.approx(0.99)


def test_reliability_is_the_share_that_ended_of_steps_said_alike():
    table = reliability(torch.tensor([0.005, 0.005, 0.5, 0.5, 0.5, 0.5]), torch.tensor([0, 0, 1, 1, 1, 0.0]))
    assert table == {"probability": [pytest.approx(0.005), 0.5], "share": [0.0, 0.75], "steps": [2, 4]}


def test_correlation_needs_something_that_varies():
    assert correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    assert correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert correlation(torch.ones(3), torch.tensor([3.0, 2.0, 1.0])) is None
    assert correlation(torch.ones(0), torch.ones(0)) is None


def episode(length: int, *, fatal: bool, seed: int = 0) -> EpisodeArrays:
    """Pictures of 4 x 8 pixels; the last row's step ended it, or led to nowhere."""
    random = np.random.default_rng(seed)
    content = random.integers(0, 16, (length, 4, 8, 5), np.uint8)
    ended = torch.zeros(length, dtype=torch.bool)
    ended[-1] = fatal
    valid = torch.ones(length, dtype=torch.bool)
    valid[-1] = fatal
    outcomes = Outcomes(torch.arange(length).float(), ended, torch.zeros(length, dtype=torch.bool), valid)
    return EpisodeArrays(content, random.integers(0, 3, length), "", seed, outcomes)


@pytest.mark.parametrize("fatal", [True, False])
def test_a_whole_episode_is_watched_to_its_last_step(fatal):
    """Each step's expectation is that of one pass over all frames, read at its own action."""
    world = make_world("discrete", **HEADS)
    torch.nn.init.normal_(world.outcome_head.reward.weight)
    torch.nn.init.normal_(world.outcome_head.end.weight)
    each = episode(7, fatal=fatal)
    (found,) = watch(world, each)
    codes = world.tokenizer.encode(frames_of(each.content[None]))
    codes = torch.cat([codes, codes[:, -1:] * 0], 1)  # whatever follows the last frame
    actions = torch.from_numpy(each.actions)[None]
    with torch.no_grad():
        outputs = world.dynamics(codes, world.action_embedding(actions, 8, 1))
        reward, end = world.outcome_head.expected(world.dynamics.step_features(outputs[:, 1:]))
    steps = 7 if fatal else 6
    torch.testing.assert_close(found.reward, reward[0, :steps], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.end, end[0, :steps], atol=1e-5, rtol=1e-5)
    assert found.paid.tolist() == [*range(steps)]
    assert found.ended.tolist() == [False] * (steps - 1) + [fatal]
    assert found.valid.all()


@pytest.mark.parametrize("length", [6, 7, 8, 9])
def test_with_a_stride_the_last_step_is_that_of_the_last_rows(length):
    world = make_world("discrete", frame_stride=3, **HEADS)
    (found,) = watch(world, episode(length, fatal=True))
    assert found.ended.tolist() == [False] * (length // 3 - 1) + [True]
    assert found.paid[-1] == sum(range(length - 3, length))


def test_dreams_are_measured_on_clips_that_reach_the_ends():
    world = make_world("discrete", **HEADS)
    every = [episode(7, fatal=True, seed=seed) for seed in range(3)]
    found = dream(world, every, config=CONFIG)
    assert len(found) == 3 * 5  # a context of 3 frames can begin at rows 0 to 4
    assert sum(int(each.ended.sum()) for each in found) == 3 * 4  # the last step is up to the fourth of a dream
    assert all(each.valid[0] for each in found)
    assert sorted({int(each.paid[0]) for each in found}) == [2, 3, 4, 5, 6]


def test_what_is_not_known_is_left_out():
    assert measure_outcomes(make_world("discrete"), [episode(7, fatal=True)], config=CONFIG) is None
    silent = [replace(episode(7, fatal=True), outcomes=None)]
    assert "left_out" in measure_outcomes(make_world("discrete", **HEADS), silent, config=CONFIG)
    only_ends = measure_outcomes(make_world("discrete", end_rate=0.1), [episode(7, fatal=True)], config=CONFIG)
    assert only_ends["reward"] is None
    assert only_ends["end"]["rate"] == pytest.approx(1 / 7)


def test_an_evaluation_writes_rewards_and_ends_beside_the_rest(tmp_path):
    write_dataset(tmp_path / "data", episodes=10, outcomes=True)
    config = replace(CONFIG, clips=4, batch_size=2)
    save_world(tmp_path / "run", tmp_path / "data", held_out=(1, 5, 6), reward_values=(0.0, 8.0, 15.0), end_rate=0.1)
    evaluate_world(tmp_path / "run", tmp_path / "data", out=tmp_path / "out", config=config)
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)["outcomes"]
    assert len(measured["reward"]["error"]) == len(measured["reward"]["correlation"]) == 4
    assert measured["end"]["watched"]["ends"] == 3
    assert 0 < measured["end"]["expected"] < 1
    assert measured["end"]["reliability"]["steps"]
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Rewards and ends</h2>" in text
