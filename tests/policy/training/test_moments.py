"""Which rows a policy learns from, and what it is told there."""

import numpy as np
import pytest
import torch

from oneiros.data.episodes.dataset import Dataset
from oneiros.policy.carry import observed_rows
from oneiros.policy.training.moments import Demonstration, Moments, actions_between, read_demonstrations
from oneiros.records import ActionSpec
from tests.recorded import record

XY = ActionSpec("continuous", ("x", "y"))


def demonstration(length: int, index: int = 0, task: str = "move", states: bool = False) -> Demonstration:
    actions = np.stack([np.arange(length), 100 * index + np.arange(length)], 1).astype(np.float32)
    return Demonstration(index, task, actions, actions * 2 if states else None)


def test_every_row_at_which_something_was_done_is_a_moment():
    moments = Moments([demonstration(6), demonstration(1, 1), demonstration(4, 2)], XY, horizon=3, every=2)
    assert [moments.where(moment) for moment in range(len(moments))] == [(0, 0), (0, 2), (0, 4), (2, 0), (2, 2)]
    with pytest.raises(IndexError):
        moments.where(len(moments))


def test_chunks_end_with_what_was_done_last_and_say_so():
    moments = Moments([demonstration(6)], XY, horizon=3)
    batch = moments.batch([0, 3, 4])
    assert batch.actions[..., 0].tolist() == [[0, 1, 2], [3, 4, 4], [4, 4, 4]]  # the last row's action was never done
    assert batch.valid.tolist() == [[True] * 3, [True, True, False], [True, False, False]]


def test_goals_are_numbers_of_tasks_and_states_are_the_rows_own():
    parts = [demonstration(3, 0, "open", states=True), demonstration(3, 1, "close", states=True)]
    moments = Moments([*parts, demonstration(3, 2, "open", states=True)], XY, horizon=1)
    assert moments.tasks == ("open", "close")
    batch = moments.batch(range(6), torch.arange(6))
    assert batch.goal.tolist() == [0, 0, 1, 1, 0, 0]
    assert batch.state is not None
    assert batch.state[:, 0].tolist() == [0, 2, 0, 2, 0, 2]
    assert batch.seeds is not None


def test_states_that_never_change_are_not_divided_by_zero():
    constant = Demonstration(0, "move", np.zeros((4, 2), np.float32), np.array([[1, 7.0]] * 3 + [[5, 7.0]], np.float32))
    mean, std = Moments([constant], XY, horizon=1).state_statistics()
    assert mean == (2.0, 7.0)
    assert std == (pytest.approx(3**0.5), 1.0)


@pytest.mark.parametrize(("row", "rows"), [(0, [0, 0, 0]), (3, [0, 0, 3]), (9, [1, 5, 9])])
def test_the_first_row_stands_in_for_those_before_it(row, rows):
    assert observed_rows(row, 3, 4).tolist() == rows


def test_nothing_was_done_before_the_episode():
    actions = np.arange(1, 9, dtype=np.float32)[:, None]
    done = [actions_between(actions, ActionSpec("continuous", ("x",)), row, 3, 2).tolist() for row in (0, 3, 6)]
    assert done == [[[0, 0], [0, 0]], [[0, 1], [2, 3]], [[3, 4], [5, 6]]]
    held = np.array([[True, False], [False, False], [False, True]])
    keys = ActionSpec("keys", ("left", "right"))
    assert actions_between(held, keys, 2, 2, 2).tolist() == [[True, False]]
    assert actions_between(held, keys, 0, 2, 2).tolist() == [[False, False]]
    assert actions_between(np.array([2, 1, 2]), ActionSpec("discrete", ("a", "b", "c")), 1, 2, 2).tolist() == [2]


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1, 1], {}, "no episode has two rows"),
        ([5], {"every": 0}, "every is 0"),
        ([5], {"horizon": 0}, "action_horizon is 0"),
    ],
)
def test_nothing_to_learn_from(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        Moments([demonstration(length) for length in lengths], XY, **{"horizon": 2, **options})


def test_a_dataset_without_actions_teaches_nothing(tmp_path):
    with pytest.raises(ValueError, match="has no actions to learn from"):
        read_demonstrations(Dataset.open(record(tmp_path, spec=None, num_episodes=2)), [])
